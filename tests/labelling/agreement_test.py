import sys

import pytest

from posttrain_jax.labelling.agreement import (
  agreement,
  check_installed,
  cohen_kappa,
  krippendorff_alpha,
  signed_strength,
)
from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.votes import Vote
from posttrain_jax.types import InputError

pytest.importorskip("krippendorff", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("sklearn", reason="needs pip install 'posttrain_jax[label]'")


def votes(kind, **raters):
  """Makes votes: for each rater a list with their label of each item; None for none."""
  found = {}
  for rater, labels in raters.items():
    for item, label in enumerate(labels):
      if label is not None:
        found.setdefault(f"i{item}", []).append(Vote(rater, f"i{item}", label, (0, 1), 0.0))
  return agreement(kind, found, list(raters))


def test_kappa_by_hand():
  # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p_o = .7, p_e = .5 * .6 + .5 * .4 = .5, kappa = .4.
  values = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
  table = {i: {"a": a, "b": b} for i, (a, b) in enumerate(values)}
  assert cohen_kappa(table, "a", "b") == {"raters": ["a", "b"], "kappa": 0.4, "units": 50, "same": 0.7}


# Krippendorff's example of four raters and twelve units ("Computing Krippendorff's Alpha-Reliability", 2011, C).
EXAMPLE = {
  "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
  "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
  "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
  "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_of_the_published_example(level, alpha):
  table = {
    unit: {rater: values[unit] for rater, values in EXAMPLE.items() if values[unit] is not None} for unit in range(12)
  }
  found = krippendorff_alpha(table, list(EXAMPLE), level)
  assert found["alpha"] == pytest.approx(alpha, abs=5e-4)
  assert (found["units"], found["labels"]) == (11, 40)  # the unit that one rater saw says nothing


def pair(better, strength="better"):
  return {"better": better, "strength": None if better is None else strength, "edited": None}


def test_pairs_have_choices_and_strengths():
  found = votes(
    RatingKind.PAIRS, a=[pair(0), pair(1), pair(None), pair(0)], b=[pair(0, "slightly"), pair(1), pair(None), None]
  )
  assert found["choices"]["alpha"] == 1.0 and found["choices"]["kappa"][0]["kappa"] == 1.0
  assert found["choices"]["units"] == 3 and found["choices"]["kappa"][0]["units"] == 3
  assert found["strengths"]["level"] == "ordinal" and 0.8 < found["strengths"]["alpha"] < 1
  assert "kappa" not in found["strengths"]


def test_signed_strengths():
  given = [pair(0, "significantly"), pair(0, "negligibly"), pair(None), pair(1, "negligibly"), pair(1, "significantly")]
  assert [signed_strength(label) for label in given] == [-4, -1, 0, 1, 4]


def test_rankings_have_orders_of_two_and_ranks():
  same = [{"ranks": [0, 1, 2]}, {"ranks": [2, 0, 1]}]
  found = votes(RatingKind.RANKING, a=same, b=same)
  assert found["orders"]["alpha"] == found["ranks"]["alpha"] == 1.0
  assert (found["orders"]["units"], found["ranks"]["units"]) == (6, 6)
  other = [{"ranks": [2, 1, 0]}, {"ranks": [0, 2, 1]}]
  found = votes(RatingKind.RANKING, a=same, b=other)
  assert found["orders"]["alpha"] < 0 and found["orders"]["kappa"][0]["same"] == 0


def test_accepting_and_nothing_to_agree_on():
  yes, no = {"accepted": True, "edited": None}, {"accepted": False, "edited": None}
  assert votes(RatingKind.ACCEPT, a=[yes, no, yes], b=[yes, no, no])["accepted"]["kappa"][0]["same"] == 0.6667
  assert votes(RatingKind.DEMONSTRATIONS, a=[{"text": "x"}], b=[{"text": "y"}]) == {}


def test_what_is_not_defined_is_none():
  alike = votes(RatingKind.PAIRS, a=[pair(0), pair(0)], b=[pair(0), pair(0)])
  assert alike["choices"]["alpha"] is None and alike["choices"]["kappa"][0]["kappa"] is None
  assert alike["choices"]["kappa"][0]["same"] == 1
  alone = votes(RatingKind.PAIRS, a=[pair(0), None], b=[None, pair(1)])
  assert alone["choices"] == {"alpha": None, "level": "nominal", "units": 0, "labels": 0, "kappa": []}


def test_a_missing_library_is_one_line(monkeypatch):
  monkeypatch.setitem(sys.modules, "krippendorff", None)
  with pytest.raises(InputError, match=r"agreement needs krippendorff: pip install 'posttrain_jax\[label\]'"):
    check_installed()
