"""Tests how the agreement of two judges is measured."""

import numpy as np
import pytest

from posttrain_jax.evaluation.agreement import agreement
from posttrain_jax.types import InputError


def table(both, rule_only, model_only, neither):
  rule = [True] * (both + rule_only) + [False] * (model_only + neither)
  model = [True] * both + [False] * rule_only + [True] * model_only + [False] * neither
  return rule, model, range(len(rule))


def test_a_table_worked_out_by_hand():
  found = agreement(*table(20, 5, 10, 15))
  assert found["rule"].mean == pytest.approx(0.5) and found["model"].mean == pytest.approx(0.6)
  assert (found["rule_only"].mean, found["model_only"].mean) == pytest.approx((0.1, 0.2))
  # 0.7 agree, 0.5 · 0.6 + 0.5 · 0.4 = 0.5 by chance: (0.7 − 0.5) / (1 − 0.5)
  assert found["agreement"].mean == pytest.approx(0.7) and found["kappa"].mean == pytest.approx(0.4)
  assert 0 < found["kappa"].low < 0.4 < found["kappa"].high < 0.75
  assert found["kappa"].problems == 50


@pytest.mark.parametrize(("cells", "kappa"), [((10, 0, 0, 10), 1), ((0, 10, 10, 0), -1), ((5, 5, 5, 5), 0)])
def test_full_agreement_none_and_chance(cells, kappa):
  assert agreement(*table(*cells))["kappa"].mean == pytest.approx(kappa)


def test_high_agreement_may_be_chance():
  found = agreement(*table(90, 5, 5, 0))
  assert found["agreement"].mean == pytest.approx(0.9) and found["kappa"].mean < 0


def test_kappa_is_undefined_where_both_always_say_the_same():
  found = agreement(*table(9, 0, 0, 0))
  assert np.isnan(found["kappa"].mean) and np.isnan(found["kappa"].low)
  assert (found["agreement"].low, found["agreement"].high) == (1, 1)


def test_intervals_are_over_units():
  rule, model, rows = table(20, 5, 10, 15)
  alone = agreement(rule, model, rows)["agreement"]
  # Four copies of each answer tell no more than one.
  copied = agreement(np.repeat(rule, 4), np.repeat(model, 4), np.repeat(rows, 4))["agreement"]
  assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
  wrong = agreement(np.repeat(rule, 4), np.repeat(model, 4), range(200))["agreement"]
  assert wrong.high - wrong.low < 0.7 * (alone.high - alone.low)


def test_the_interval_covers_the_truth():
  rng = np.random.default_rng(0)
  covered = 0
  for seed in range(100):
    rule = rng.random(80) < 0.5
    model = np.where(rng.random(80) < 0.8, rule, ~rule)  # kappa 0.6
    kappa = agreement(rule, model, range(80), seed=seed)["kappa"]
    covered += kappa.low <= 0.6 <= kappa.high
  assert 88 <= covered <= 100


def test_nothing_to_compare_is_refused():
  with pytest.raises(InputError, match="found 0, 0 and 0 entries"):
    agreement([], [], [])
  with pytest.raises(InputError, match="found 2, 1 and 2 entries"):
    agreement([True, False], [True], [0, 1])
