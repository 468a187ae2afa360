"""Tests that host memory keeps the same bits, and that platforms without such memory are refused."""

import dataclasses
from types import SimpleNamespace

import jax
import pytest

from posttrain_jax.learner import checkpoint
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.parallel.memory import Kept, Memory, MemoryWithReference, check_host_memory
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError
from tests.learner.fixed_rollouts import PROMPTS, make_learner, rollouts

HOST = "pinned_host"


def kinds(tree):
  return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree)}


def one_update(step):
  return jax.tree.map(lambda leaf: leaf[:PROMPTS], rollouts(step))


def test_an_optimiser_in_host_memory(tmp_path):
  mesh = make_mesh(dict(fsdp=2), jax.devices()[:2])
  digests = []
  for kept in Kept:
    learner = make_learner(mesh, optimizer_kept=kept)
    reference = learner.scorer.freeze(learner.state.params, kept)
    assert kinds(reference) == ({HOST} if kept == Kept.HOST else {"device"})
    batch = one_update(0)
    logprobs = learner.scorer(reference, batch)
    for step in range(2):
      batch = one_update(step)
      learner.train(_with_reference(batch, learner.scorer(reference, batch)))
    assert kinds(learner.state.params) == {"device"}
    assert kinds(learner.state.opt_state) == ({HOST} if kept == Kept.HOST else {"device"})
    digests.append((params_sha256(learner.state), logprobs.tobytes()))
  assert digests[0] == digests[1]

  abstract = abstract_like(learner.state, learner.shardings)
  with checkpoint.Checkpointer(tmp_path) as checkpoints:
    checkpoints.save(1, learner.state, {})
    restored = checkpoints.restore(abstract).state
  assert kinds(restored.opt_state) == {HOST} and kinds(restored.params) == {"device"}
  assert params_sha256(restored) == digests[1][0]
  learner.state = restored
  learner.train(_with_reference(batch, learner.scorer(reference, batch)))


def _with_reference(batch, logprobs):
  return dataclasses.replace(batch, reference_logprobs=logprobs)


def test_a_platform_without_host_memory_is_refused():
  device = SimpleNamespace(device_kind="abacus", addressable_memories=lambda: [SimpleNamespace(kind="device")])
  mesh = SimpleNamespace(local_devices=[device])
  MemoryWithReference(optimizer=Kept.DEVICE, reference=Kept.DEVICE).check(mesh)
  MemoryWithReference(optimizer=Kept.HOST, reference=Kept.HOST).check(make_mesh({}, jax.devices()[:1]))
  with pytest.raises(InputError, match=r"memory\.reference: host, but a abacus reaches no pinned_host memory"):
    MemoryWithReference(optimizer=Kept.DEVICE, reference=Kept.HOST).check(mesh)
  with pytest.raises(InputError, match=r"memory\.optimizer: host, but a abacus reaches"):
    Memory(optimizer=Kept.HOST).check(mesh)
  with pytest.raises(InputError, match=r"model\.remat: host, but a abacus reaches"):
    check_host_memory(mesh, "model.remat")
