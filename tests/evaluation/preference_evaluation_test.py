"""Tests held-out pairs: rewards of answers relative to the evaluation's reference."""

import jax
import numpy as np
import pytest

from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.evaluation.preference_evaluation import PreferenceEvaluation
from posttrain_jax.evaluation.reference_logprobs import compute_logprobs
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.preference import PreferenceLoss
from posttrain_jax.learner.scoring import plain_logprob_scorer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_preference_objective
from tests.random_params import random_params

MODEL = TransformerConfig(24, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=2, num_kv_heads=1, head_dim=8)
OBJECTIVE = make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}, logprob_chunk=8)

DIVISION = Division(prompts_per_update=2, budget=13)


def test_rewards_are_relative_to_the_reference_and_filling_does_not_count():
  rng = np.random.default_rng(0)
  answers = [tuple(np.append(rng.integers(3, 24, n), 2).astype(np.int32) for n in (3, 2)) for _ in range(5)]
  pairs = [Comparison(tuple(rng.integers(3, 24, 4).tolist()), each, (0, 1)) for each in answers]
  mesh = make_mesh({}, jax.devices()[:1])
  reference, policy = random_params(MODEL), random_params(MODEL, seed=1)
  evaluation = PreferenceEvaluation(MODEL, pairs, OBJECTIVE, reference, mesh, DIVISION, pad_id=0, count_end=False)

  start = evaluation(reference)
  assert start["reward/margin"] == start["logprob/chosen_moved"] == start["logprob/rejected_moved"] == 0
  assert start["reward/accuracy"] == 0.5 and start["pairs"] == 5

  batches = list(ComparisonBatches(pairs, batch_size=2, seed=0, count_end=False).in_order(2))
  scorer = plain_logprob_scorer(MODEL, mesh, DIVISION, chunk=8)
  sums = [compute_logprobs(scorer, params, batches, 5) for params in (policy, reference)]
  moved = (sums[0] - sums[1]).astype(np.float64)
  found = evaluation(policy)
  assert found["reward/chosen"] == pytest.approx(0.5 * moved[:, 0].mean(), rel=1e-5)
  assert found["reward/margin"] == pytest.approx(0.5 * (moved[:, 0] - moved[:, 1]).mean(), rel=1e-5)
  assert found["reward/accuracy"] == pytest.approx((moved[:, 0] > moved[:, 1]).mean())
  assert found["reward/accuracy_low"] <= found["reward/accuracy"] <= found["reward/accuracy_high"]
  assert (found["length/chosen"], found["length/rejected"], found["pairs"]) == (3, 2, 5)  # without the end token


def test_single_answers_are_measured_by_label_and_by_the_order_of_good_and_bad_ones():
  rng, labels = np.random.default_rng(0), np.tile([True, False, True, True, False], 8)
  answers = [np.append(rng.integers(3, 24, 3 if label else 2), 2).astype(np.int32) for label in labels]
  singles = [
    Comparison(tuple(rng.integers(3, 24, 4).tolist()), (answer,), (0,), desirable=bool(label))
    for answer, label in zip(answers, labels)
  ]
  mesh = make_mesh({}, jax.devices()[:1])
  reference, policy = random_params(MODEL), random_params(MODEL, seed=1)
  evaluation = PreferenceEvaluation(MODEL, singles, OBJECTIVE, reference, mesh, DIVISION, pad_id=0, count_end=False)
  start = evaluation(reference)
  assert start["reward/accuracy"] == 0.5 and start["reward/margin"] == 0 and start["answers"] == 40

  batches = list(ComparisonBatches(singles, batch_size=2, seed=0, count_end=False).in_order(2))
  scorer = plain_logprob_scorer(MODEL, mesh, DIVISION, chunk=8)
  sums = [compute_logprobs(scorer, params, batches, 40)[:, 0] for params in (policy, reference)]
  moved = (sums[0] - sums[1]).astype(np.float64)
  found = evaluation(policy)
  good, bad = moved[labels], moved[~labels]
  assert found["reward/accuracy"] == pytest.approx(np.mean([g > b for g in good for b in bad]))
  assert 0 < found["reward/accuracy_low"] < found["reward/accuracy"] < found["reward/accuracy_high"] < 1
  drawn = [np.mean(rng.choice(good, 24)[:, None] > rng.choice(bad, 16)) for _ in range(4000)]
  assert [found["reward/accuracy_low"], found["reward/accuracy_high"]] == pytest.approx(
    np.percentile(drawn, (2.5, 97.5)), abs=0.02
  )
  assert found["reward/chosen"] == pytest.approx(0.5 * good.mean(), rel=1e-5)
  assert found["logprob/rejected_moved"] == pytest.approx(bad.mean(), rel=1e-5)
  assert found["reward/margin"] == pytest.approx(0.5 * (good.mean() - bad.mean()), rel=1e-5)
  assert (found["length/chosen"], found["length/rejected"]) == (3, 2)
