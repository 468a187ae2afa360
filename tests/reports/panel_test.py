import numpy as np

from posttrain_jax.reports.panel import (
  Panel,
  PanelCurve,
  evaluation_sets,
  is_zero,
  measured,
  panel,
  present,
  with_interval,
)

NAN = np.nan


def test_colours_are_counted_unless_given():
  found = panel("Loss", "nats", {"loss": "training", "eval/loss": "held-out"}, smooth=False)
  assert found == Panel(
    "Loss", "nats", (PanelCurve("loss", "training", 0), PanelCurve("eval/loss", "held-out", 1)), smooth=False
  )
  assert [curve.color for curve in panel("", "", {"a": "", "b": ""}, colors=(5, 2)).curves] == [5, 2]


def test_an_interval_needs_both_ends():
  columns = {name: np.zeros(2) for name in ("step", "a", "a_low", "a_high", "b", "b_low")}
  assert with_interval(columns, "a", "mean", 3) == PanelCurve("a", "mean, 95 % interval", 3, ("a_low", "a_high"))
  assert with_interval(columns, "b", "mean", 3) == PanelCurve("b", "mean", 3)


def test_evaluation_sets_with_their_largest_k():
  names = ("eval/hard/avg@16", "eval/easy/avg@4", "eval/hard/avg@8", "eval/hard/maj@32", "eval/x/level/1/avg@64")
  assert evaluation_sets({name: np.zeros(1) for name in names}) == {"hard": 16, "easy": 4}


def test_curves_without_a_number_are_left_out_and_so_are_panels_without_curves():
  columns = {"step": np.arange(2.0), "a": np.array([NAN, 1]), "b": np.array([NAN, np.inf])}
  assert measured(columns, "a") and not measured(columns, "b") and not measured(columns, "c")
  first, second = panel("first", "", {"a": "a", "b": "b", "c": "c"}), panel("second", "", {"b": "b"})
  (found,) = present(columns, [first, second])
  assert (found.title, [curve.key for curve in found.curves]) == ("first", ["a"])


def test_a_panel_is_zero_if_nothing_exceeds_its_noise():
  columns = {"step": np.arange(2.0), "a": np.array([np.nan, -7.88e-8]), "b": np.array([0.0, 1e-3])}
  assert is_zero(columns, panel("A", "", {"a": "a"}, noise=1e-6))
  assert not is_zero(columns, panel("A", "", {"a": "a"}))
  assert not is_zero(columns, panel("A", "", {"a": "a", "b": "b"}, noise=1e-6))
