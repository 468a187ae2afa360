"""Tests that an update is the same on every mesh and for any number of micro-batches, to rounding.

Everything is compared with one device and one micro-batch. The optimiser's epsilon is large, so that its step is about
proportional to the gradient: Adam's first step would otherwise be the sign of it, and rounding would flip small ones.
"""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest

from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.learner import supervised
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.objective import Aggregation
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_shards
from tests.learner.settings import make_correction, make_objective, make_optimizer_config
from tests.random_params import graph, names, random_params

CONFIG = TransformerConfig(
  vocab_size=24, num_layers=2, embed_dim=16, mlp_dim=24, num_heads=4, num_kv_heads=2, head_dim=4, qkv_bias=True
)
OPTIMIZER = make_optimizer_config(learning_rate=0.1, epsilon=1.0, weight_decay=0.1, clip_norm=0.5)
OBJECTIVE = make_objective(correction=make_correction(level="token"), logprob_chunk=5)
PROMPTS, GROUP, PROMPT_LENGTH, LENGTH = 8, 3, 5, 6

# The warning that XLA prints where it can only change a layout by gathering the whole array on every device.
REMATERIALIZED = "Involuntary full rematerialization"

MESHES = {
  "8x1x1": dict(data=8),
  "1x8x1": dict(fsdp=8),
  "4x1x2": dict(data=4, tensor=2),
  "1x4x2": dict(fsdp=4, tensor=2),
  "2x2x2": dict(data=2, fsdp=2, tensor=2),
}


def mesh_of(sizes):
  return make_mesh(sizes, jax.devices()[: math.prod(sizes.values())])


def policy_batch(count) -> PolicyBatch:
  """Makes prompts and answers of all lengths, holes in the mask, and one answer without a counted token."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, LENGTH + 1, size=(count, GROUP))
  mask = (np.arange(LENGTH) < lengths[..., None]) & (rng.random((count, GROUP, LENGTH)) < 0.9)
  mask[1, 0] = False
  logprobs = -rng.random((count, GROUP, LENGTH)).astype(np.float32) * 4
  return PolicyBatch(
    prompts=rng.integers(0, 24, size=(count, PROMPT_LENGTH)).astype(np.int32),
    prompt_lengths=rng.integers(1, PROMPT_LENGTH + 1, size=count).astype(np.int32),
    answers=rng.integers(0, 24, size=(count, GROUP, LENGTH)).astype(np.int32),
    mask=mask,
    advantages=rng.normal(size=(count, GROUP, 1)).astype(np.float32),
    sampler_logprobs=logprobs,
  )


def supervised_batch() -> SupervisedBatch:
  """Makes packed rows with padding behind them."""
  rng = np.random.default_rng(1)
  segment_ids = np.sort(rng.integers(0, 3, size=(8, 10)), axis=1).astype(np.int32)
  starts = np.array([[np.argmax(row == segment) for segment in row] for row in segment_ids])
  return SupervisedBatch(
    tokens=rng.integers(0, 24, size=(8, 10)).astype(np.int32),
    positions=(np.arange(10) - starts).astype(np.int32),
    segment_ids=segment_ids,
    mask=(mask := rng.random((8, 10)) < 0.6),
    weights=np.where(mask, rng.random((8, 10)), 0).astype(np.float32),
    draws=np.arange(8, dtype=np.int32),
  )


WHOLE = PROMPTS * (PROMPT_LENGTH - 1 + GROUP * LENGTH)  # tokens of an update of greatest length


def train_policy(sizes, micro_batches, updates=1, *, objective=OBJECTIVE):
  """Trains with rows of an M-th part of the longest update, but of a prompt with an answer at least."""
  learner = PolicyLearner(
    CONFIG,
    objective,
    OPTIMIZER,
    mesh_of(sizes),
    Division(PROMPTS, max(WHOLE // micro_batches, PROMPT_LENGTH - 1 + LENGTH)),
    seed=0,
    max_skipped_updates=5,
    params=random_params(CONFIG),
  )
  return learner, learner.train(policy_batch(PROMPTS * updates))


def train_supervised(sizes, micro_batches):
  mesh = mesh_of(sizes)
  rates = supervised.DropoutRates(first=0.1, last=0.3)
  learner = BatchLearner(
    CONFIG,
    supervised.make_loss(graph(CONFIG), logprob_chunk=7, shards=batch_shards(mesh), dropout=rates, seed=3),
    functools.partial(supervised.pack_rows, micro_batches),
    OPTIMIZER,
    mesh,
    seed=0,
    max_skipped_updates=5,
    params=random_params(CONFIG),
  )
  return learner, learner.train(supervised_batch())


reference = functools.cache(lambda train, *arguments: train({}, 1, *arguments))


def assert_same(found, expected):
  (learner, metrics), (expected_learner, expected_metrics) = found, expected
  assert metrics.keys() == expected_metrics.keys() and metrics["skipped_updates"] == 0
  for name in metrics:
    np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-4, atol=1e-6, err_msg=name)
  before, after = names(random_params(CONFIG)), names(expected_learner.state.params)
  for name, leaf in names(learner.state.params).items():
    moved = np.abs(np.asarray(after[name]) - np.asarray(before[name])).max()
    assert moved > 1e-5, name  # else equality would say nothing
    np.testing.assert_allclose(leaf, after[name], atol=2e-6, err_msg=name)


def cases(each, quick):
  """Pairs each training function with each of `each`.

  Pairs that are not in `quick` are marked slow, because each compiles for seconds.
  """
  return [
    pytest.param(train, value, marks=() if (train, value) in quick else pytest.mark.slow)
    for train in (train_policy, train_supervised)
    for value in each
  ]


QUICK_MESHES = [(train_policy, "2x2x2"), (train_supervised, "2x2x2")]
QUICK_MICRO_BATCHES = [(train_policy, 8), (train_supervised, 4)]


@pytest.mark.parametrize(("train", "sizes"), cases(MESHES, QUICK_MESHES))
def test_meshes(train, sizes, capfd):
  expected = reference(train)
  capfd.readouterr()
  found = train(MESHES[sizes], 1)
  assert REMATERIALIZED not in capfd.readouterr().err
  assert_same(found, expected)


@pytest.mark.parametrize(("train", "micro_batches"), cases((2, 4, 8), QUICK_MICRO_BATCHES))
def test_micro_batches(train, micro_batches):
  assert_same(train({}, micro_batches), reference(train))


@pytest.mark.slow
def test_micro_batches_on_a_mesh_and_an_off_policy_update(capfd):
  """Runs two updates of two micro-batches each.

  The second has old logprobs that the learner computed before the first.
  """
  expected = reference(train_policy, 2)
  capfd.readouterr()
  found = train_policy(MESHES["2x2x2"], 2, 2)
  assert REMATERIALIZED not in capfd.readouterr().err
  assert_same(found, expected)
  assert expected[0].version == 2


PROMPT_MEAN = dataclasses.replace(OBJECTIVE, aggregation=Aggregation.PROMPT_MEAN)


@pytest.mark.parametrize(("sizes", "updates"), [("1x4x2", 1), pytest.param("2x2x2", 2, marks=pytest.mark.slow)])
def test_rows_that_hold_little_more_than_an_answer(sizes, updates, capfd):
  """Runs updates in which most prompts stand in several rows, which are cut over micro-batches and devices."""
  expected = train_policy({}, 1, updates, objective=PROMPT_MEAN)
  capfd.readouterr()
  found = train_policy(MESHES[sizes], 100, updates, objective=PROMPT_MEAN)
  assert REMATERIALIZED not in capfd.readouterr().err
  assert_same(found, expected)
  if updates == 2:
    batch = policy_batch(PROMPTS)
    logprobs, of_groups = (np.where(batch.mask, learner.score(batch), 0) for learner in (found[0], expected[0]))
    np.testing.assert_allclose(logprobs, of_groups, atol=1e-4)
