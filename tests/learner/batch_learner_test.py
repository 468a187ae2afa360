"""Tests a learner of fixed batches.

It counts its updates, knows its rate, and ends after too many updates that are not finite.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.learner import supervised
from posttrain_jax.learner.batch_learner import BatchLearner, check_division
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.update import Diverged
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config
from tests.random_params import graph

SMALL = TransformerConfig(17, num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)


@functools.cache
def learner():
  return BatchLearner(
    SMALL,
    supervised.make_loss(graph(SMALL), logprob_chunk=64),
    functools.partial(supervised.pack_rows, 2),
    make_optimizer_config(warmup_updates=2),
    make_mesh({}, jax.devices()[:1]),
    max_skipped_updates=2,
    seed=0,
  )


def batch():
  rng = np.random.default_rng(0)
  mask = np.arange(6) > np.zeros((4, 1))
  tokens = rng.integers(0, 17, (4, 6)).astype(np.int32)
  positions = np.tile(np.arange(6, dtype=np.int32), (4, 1))
  ones = np.ones((4, 6), np.int32)
  return SupervisedBatch(tokens, mask, ones, positions, mask.astype(np.float32), np.arange(4, dtype=np.int32))


def test_training():
  one = learner()
  parts = one.pack(batch()).parts
  assert parts.tokens.shape == (2, 2, 6) and parts.draws.tolist() == [[0, 1], [2, 3]]
  found = [one.train(batch()) for _ in range(3)]
  assert one.version == 3
  assert [metrics["learning_rate"] for metrics in found] == pytest.approx([0.005, 0.01, 0.01])
  assert found[-1]["loss"] < found[0]["loss"] and found[0]["tokens"] == 4 * 5

  # An update that is not finite changes nothing; too many in a row end the training.
  before, version = params_sha256(one.state), one.version
  poisoned = dataclasses.replace(batch(), weights=np.full((4, 6), np.nan, np.float32))
  assert one.train(poisoned)["skipped_updates"] == 1
  with pytest.raises(Diverged, match="2 updates in a row"):
    one.train(poisoned)
  assert params_sha256(one.state) == before and one.version == version


def test_batches_that_do_not_divide():
  mesh = make_mesh({"fsdp": 2}, jax.devices()[:2])
  check_division(mesh, batch_size=8, micro_batches=2)
  for sizes in (dict(batch_size=6, micro_batches=2), dict(batch_size=0, micro_batches=1)):
    with pytest.raises(InputError, match=r"batch_size: \d rows do not divide .* = 2 shards"):
      check_division(mesh, **sizes)
