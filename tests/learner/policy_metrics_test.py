"""Tests the metrics of a micro-batch, by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.learner.policy_batch import TokenInputs
from posttrain_jax.learner.policy_metrics import measure
from tests.learner.settings import make_correction, make_objective

# Five tokens of one answer, the last one masked. Ratios and advantages:
#   1.5, +1: clipped above.   .5, -1: clipped below.   1, -1: free.   4, -1: held by a dual clip of 3.
RATIO = np.array([1.5, 0.5, 1.0, 4.0, 100.0])
ADVANTAGES = np.array([1.0, -1.0, -1.0, -1.0, 1.0])
MASK = np.array([True] * 4 + [False])
LEARNER = np.array([-1.0, -2.0, -1.0, -1.0, -1.0])
TOTAL = 8  # counted tokens of the update, of which these are half


def found(**changes):
  old = LEARNER - np.log(RATIO)
  arrays = (ADVANTAGES, old - 0.5, old, old - 0.1, MASK / TOTAL, np.where(MASK, [1, 0, 0, 0, 0], 0))
  tokens = TokenInputs(MASK[None, None], *(jnp.asarray(x, jnp.float32)[None, None] for x in arrays))
  learner, entropy = (jnp.asarray(x, jnp.float32)[None, None] for x in (LEARNER, np.arange(1.0, 6.0)))
  return measure(make_objective(**changes), learner, entropy, tokens, jnp.int32(TOTAL))


def test_shares_are_of_the_updates_tokens():
  sums, maxima = found(dual_clip=3.0, correction=make_correction(high=1.2))
  assert sums["clip/high"] == 1 / TOTAL and sums["clip/low"] == 1 / TOTAL and sums["clip/dual"] == 1 / TOTAL
  assert sums["entropy"] == pytest.approx((1 + 2 + 3 + 4) / TOTAL)
  assert sums["mismatch/mean_abs_logprob"] == pytest.approx(4 * 0.5 / TOTAL)
  assert maxima["mismatch/max_abs_logprob"] == pytest.approx(0.5)
  assert maxima["ratio/max"] == pytest.approx(4)
  # log sampler - log old is -0.5, the weight e^0.5 = 1.65 is cut at 1.2.
  assert sums["kl/k1_sampler"] == pytest.approx(-4 * 0.5 / TOTAL, rel=1e-5)
  assert sums["kl/k3_sampler"] == pytest.approx(4 * (math.exp(0.5) - 1.5) / TOTAL, rel=1e-5)
  assert sums["correction/weight"] == pytest.approx(4 * 1.2 / TOTAL, rel=1e-6)
  assert "kl/reference" not in sums and "nll/correct" not in sums


def test_terms_are_measured_where_the_objective_has_them():
  off = make_correction(level="off")
  sums, _ = found(correction=off)
  assert not {"clip/dual", "correction/weight", "kl/reference", "nll/correct"} & sums.keys()
  sums, _ = found(correction=off, kl_coefficient=0.1, nll_on_correct=0.1)
  reference = np.log(RATIO) + 0.1  # learner - reference
  k3 = np.exp(-reference) - 1 + reference
  assert sums["kl/reference"] == pytest.approx(k3[MASK].sum() / TOTAL, rel=1e-4)
  assert sums["nll/correct"] == pytest.approx(1.0)  # the weight 1 stands at the first token


def test_a_broken_logprob_leaves_every_metric_finite():
  old = np.full(5, -1.0)
  arrays = (ADVANTAGES, np.array([-1.0, -95.0, -1.0, -1.0, 0.0]), old, np.full(5, -1.0), MASK / TOTAL, MASK / TOTAL)
  tokens = TokenInputs(MASK[None, None], *(jnp.asarray(x, jnp.float32)[None, None] for x in arrays))
  learner = jnp.asarray([-95.0, -1.0, 120.0, -1.0, 0.0], jnp.float32)[None, None]
  sums, maxima = measure(make_objective(kl_coefficient=0.1), learner, -learner, tokens, jnp.int32(TOTAL))
  assert all(np.isfinite(value) for value in (sums | maxima).values())
  assert sums["kl/reference"] < 1000 and maxima["ratio/max"] == pytest.approx(math.exp(20))


def test_float32_sums_over_a_million_tokens_are_right():
  rng, count = np.random.default_rng(0), 1 << 20
  learner, entropy = -rng.random(count, np.float32) - 0.1, rng.random(count, np.float32) + 0.1
  old, mask = learner - 0.25, rng.random(count) < 0.9
  arrays = (np.ones(count), old - 0.5, old, old, mask / mask.sum(), mask / mask.sum())
  tokens = TokenInputs(mask[None, None], *(jnp.asarray(x, jnp.float32)[None, None] for x in arrays))
  sums, _ = measure(make_objective(), learner[None, None], entropy[None, None], tokens, jnp.int32(mask.sum()))
  assert sums["entropy"] == pytest.approx(np.where(mask, entropy, np.float64(0)).sum() / mask.sum(), rel=2e-6)
  assert sums["mismatch/mean_abs_logprob"] == pytest.approx(0.5, rel=2e-6)
