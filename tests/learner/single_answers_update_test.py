"""Tests updates on packed single answers against rows of the transformer that are computed one by one."""

import functools
import math

import jax
import numpy as np
import pytest

from posttrain_jax.learner import single_answers
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.preference import PreferenceLoss
from posttrain_jax.learner.preference_batch import ReferencedBatch
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_preference_objective
from tests.learner.single_answers_test import LABELS, WEIGHTS, by_the_paper
from tests.learner.small_pair_learner import assert_same, new_learner
from tests.learner.small_pairs import WIDEST, batch_of, packed, row_logprobs, singles
from tests.random_params import names

KTO = make_preference_objective(PreferenceLoss.KTO, WEIGHTS, logprob_chunk=7)


@functools.cache
def policy_and_reference() -> tuple[np.ndarray, np.ndarray]:
  return row_logprobs(singles()), row_logprobs(singles(), seed=1)


def referenced(size=8) -> ReferencedBatch:
  reference = np.pad(policy_and_reference()[1], [(0, size - 8), (0, 0)], constant_values=1e4)
  return ReferencedBatch(batch_of(singles(), size=size), reference.astype(np.float32))


def make_learner(**settings) -> BatchLearner:
  return new_learner(single_answers.make_loss, KTO, **settings)


def train(batch, **settings):
  learner = make_learner(**settings)
  return learner.train(batch), names(learner.state.params)


reference = functools.cache(lambda: train(referenced()))


def test_the_loss_and_its_metrics_are_those_of_rows_run_one_by_one():
  metrics, _ = reference()
  policy, of_reference = policy_and_reference()
  each, z = by_the_paper(policy, of_reference, LABELS, **WEIGHTS)
  moved = (policy - of_reference)[:, 0]
  assert metrics["loss"] == pytest.approx(each.mean(), rel=1e-5)
  assert metrics["kl"] == pytest.approx(z, rel=1e-4)
  assert metrics["reward/margin"] == pytest.approx(0.1 * (moved[LABELS].mean() - moved[~LABELS].mean()), rel=1e-4)
  assert metrics["logprob/rejected"] == pytest.approx(policy[~LABELS, 0].mean(), rel=1e-5)


@pytest.mark.parametrize(
  ("sizes", "size"),
  [(dict(data=2, fsdp=2, tensor=2), 8), (dict(data=4), 8), (None, 16)],
  ids=["mesh", "data", "filled"],
)
def test_one_micro_batch_is_the_same_on_any_mesh_and_however_it_is_filled(sizes, size):
  assert_same(train(referenced(size), sizes=sizes), reference())


@pytest.mark.parametrize("sizes", [None, dict(data=2)])
def test_a_token_budget_of_several_micro_batches_takes_the_kl_of_each(sizes):
  metrics, _ = train(referenced(), tokens=WIDEST, sizes=sizes)
  policy, of_reference = policy_and_reference()
  mesh = make_mesh(sizes or {}, jax.devices()[: math.prod((sizes or {}).values())])
  update = packed(referenced(), tokens=WIDEST, mesh=mesh)
  assert update.count > 2
  wanted = 0.0
  for real, seen in zip(update.parts.pairs.real, update.parts.pairs.reference):
    there = [int(np.abs(of_reference[:, 0] - x).argmin()) for x in seen[real][:, 0]]
    if there:
      wanted += by_the_paper(policy[there], of_reference[there], LABELS[there], **WEIGHTS)[0].sum() / 8
  assert metrics["loss"] == pytest.approx(wanted, rel=1e-5)


def test_a_few_updates_raise_good_answers_above_bad_ones():
  """Goes the whole way through the transformer, from where the policy is the reference."""
  learner, batch = make_learner(), ReferencedBatch(batch_of(singles()), policy_and_reference()[0].astype(np.float32))
  records = [learner.train(batch) for _ in range(4)]
  assert records[0]["reward/margin"] == pytest.approx(0, abs=1e-3)
  assert records[-1]["reward/margin"] > 0.01 and records[-1]["loss"] < records[0]["loss"]
