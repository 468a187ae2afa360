"""Tests what is found of models by judges whose taste is known."""

import io
import json

import numpy as np
import pytest
import rich.console

from posttrain_jax.data.prompts import Row
from posttrain_jax.evaluation.labelled_pairs import read_labels
from posttrain_jax.evaluation.model_comparison import compare_answers, compare_labels

QUESTIONS = ["q", "r"]


def by_first_letter(pairs):
  """Prefers the answer whose first letter comes first in the alphabet."""
  return [0.5 if a[0] == b[0] else float(a[0] < b[0]) for _, a, b in pairs]


def test_all_pairs_are_compared_and_ranked():
  answers = {"last": [["c"], ["c"]], "best": [["a"], ["a"]], "middle": [["b"], ["c"]]}
  found = compare_answers(QUESTIONS, answers, by_first_letter, seed=0)
  rates = {pair: measures["win_rate"].mean for pair, measures in found.pairs.items()}
  assert rates == {("last", "best"): 0.0, ("last", "middle"): 0.25, ("best", "middle"): 1.0}
  assert list(found.strengths) == ["best", "middle", "last"]
  line = json.loads(json.dumps(found.to_json()))
  assert line["pairs"]["last_over_middle"]["tie"]["mean"] == 0.5
  assert [each["model"] for each in line["ranking"]] == ["best", "middle", "last"]


def test_a_judge_of_places_finds_models_equal_and_is_told():
  answers = {"a": [["x"]] * 20, "b": [["y"]] * 20}
  found = compare_answers(["q"] * 20, answers, lambda pairs: [0.9] * len(pairs), seed=0)
  measures = found.pairs["a", "b"]
  assert measures["win_rate"].mean == 0.5 and measures["tie"].mean == 1.0
  assert measures["win_rate_averaged"].mean == pytest.approx(0.5)
  assert measures["first_place"].mean == pytest.approx(0.9)
  assert [each.mean for each in found.strengths.values()] == pytest.approx([0, 0], abs=1e-9)


def test_a_judge_of_length_alone_finds_models_equal_at_equal_length():
  """One model writes longer answers on average, and wins by that alone."""
  rng = np.random.default_rng(0)
  answers = {
    name: [["w " * int(n)] for n in rng.integers(low, low + 30, size=600)] for name, low in (("long", 8), ("short", 1))
  }

  def longer(pairs):
    return [0.5 + np.sign(len(a) - len(b)) / 2 for _, a, b in pairs]

  found = compare_answers(["q"] * 600, answers, longer, seed=0).pairs["long", "short"]
  assert found["win_rate"].mean > 0.65
  assert found["win_rate_equal_length"].mean == pytest.approx(0.5, abs=0.05)


def test_labels_give_the_same_measures():
  rows = [
    {"prompt": prompt, "chosen": "a", "rejected": "b", "chosen_from": one, "rejected_from": other}
    for prompt, one, other in (("q", "x", "y"), ("r", "x", "y"), ("s", "y", "x"))
  ]
  labels, _ = read_labels([Row(each, f"l:{line}") for line, each in enumerate(rows, 1)])
  found = compare_labels(labels, seed=0)
  assert found.pairs["x", "y"]["win_rate"].mean == pytest.approx(2 / 3)
  assert list(found.strengths) == ["x", "y"]
  line = found.to_json()
  assert line["pairs"]["x_over_y"]["first_place"] == {"mean": None, "low": None, "high": None}


def test_tables_show_names_as_they_are():
  answers = {"[red]a": [["a"]] * 2, "b": [["b"]] * 2}
  console = rich.console.Console(width=100, record=True, file=io.StringIO())
  for table in compare_answers(QUESTIONS, answers, by_first_letter, seed=0).tables():
    console.print(table)
  shown = console.export_text()
  assert "[red]a over b" in shown and "1.000 [1.000, 1.000]" in shown
