import itertools

import pytest

from posttrain_jax.labelling.items import Item, RatingKind
from posttrain_jax.labelling.labels import BadLabel, LabelRules, as_shown, checked, is_right


def rules(kind, *, ties=True, edits=True, most_characters=20):
  return LabelRules(kind, ties, edits, most_characters)


def item(*answers):
  return Item("0" * 16, {}, (("user", "q"),), answers, answers, (None,) * len(answers))


PAIR = item("first", "second")


def pair(better=0, strength="better", edited=None):
  return {"better": better, "strength": strength, "edited": edited}


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_places_become_answers_and_places_again(order):
  for place in (0, 1):
    stored = checked(pair(place), PAIR, order, rules(RatingKind.PAIRS))
    assert stored == pair(order[place])
    assert as_shown(stored, order) == pair(place)
  tie = pair(None, None)
  assert as_shown(checked(tie, PAIR, order, rules(RatingKind.PAIRS)), order) == tie


def test_every_order_of_a_ranking_comes_back():
  ranked = item("a", "b", "c")
  for order in itertools.permutations(range(3)):
    for ranks in itertools.permutations(range(3)):
      stored = checked({"ranks": list(ranks)}, ranked, order, rules(RatingKind.RANKING))
      assert [stored["ranks"][answer] for answer in order] == list(ranks)
      assert as_shown(stored, order) == {"ranks": list(ranks)}
  assert checked({"ranks": [1, 0, 1]}, ranked, [2, 0, 1], rules(RatingKind.RANKING)) == {"ranks": [0, 1, 1]}


def test_an_edit_is_of_the_better_answer_and_a_change():
  assert checked(pair(0, edited="new"), PAIR, [1, 0], rules(RatingKind.PAIRS)) == pair(1, edited="new")
  assert checked(pair(0, edited=" second\n"), PAIR, [1, 0], rules(RatingKind.PAIRS)) == pair(1)
  with pytest.raises(BadLabel, match="equals the other one"):
    checked(pair(0, edited="first "), PAIR, [1, 0], rules(RatingKind.PAIRS))


def test_other_kinds():
  assert checked({"text": "an answer"}, item(), [], rules(RatingKind.DEMONSTRATIONS)) == {"text": "an answer"}
  given = {"accepted": True, "edited": "better"}
  assert checked(given, item("a"), [0], rules(RatingKind.ACCEPT)) == given
  assert checked({"accepted": False, "edited": None}, item("a"), [0], rules(RatingKind.ACCEPT))["accepted"] is False
  assert checked({"skipped": True}, PAIR, [0, 1], rules(RatingKind.PAIRS)) == {"skipped": True}


@pytest.mark.parametrize(
  ("kind", "label", "message"),
  [
    (RatingKind.PAIRS, None, "expected an object"),
    (RatingKind.PAIRS, {}, "found the fields none, expected better, edited, strength"),
    (RatingKind.PAIRS, pair() | {"item": 1}, "found the fields better, edited, item, strength"),
    (RatingKind.PAIRS, {"skipped": False}, "found the fields skipped"),
    (RatingKind.PAIRS, pair(2), "better: expected 0 or 1"),
    (RatingKind.PAIRS, pair(True), "better: expected 0 or 1"),
    (RatingKind.PAIRS, pair(0, None), "say by how much"),
    (RatingKind.PAIRS, pair(0, "hugely"), "say by how much"),
    (RatingKind.PAIRS, pair(0, ["better"]), "say by how much"),
    (RatingKind.PAIRS, pair(None), "about the same have no strength"),
    (RatingKind.PAIRS, pair(None, None, "x"), "about the same have no strength and no edit"),
    (RatingKind.PAIRS, pair(edited=" "), "write some text"),
    (RatingKind.PAIRS, pair(edited=3), "write some text"),
    (RatingKind.PAIRS, pair(edited="x" * 21), "the text has 21 characters, expected at most 20"),
    (RatingKind.PAIRS, pair(edited="\ud800"), "half a character"),
    (RatingKind.PAIRS, pair(edited="a\0"), "null character"),
    (RatingKind.RANKING, {"ranks": [0]}, "ranks: expected 2 whole numbers"),
    (RatingKind.RANKING, {"ranks": [0, 1.0]}, "ranks: expected 2 whole numbers"),
    (RatingKind.RANKING, {"ranks": [0, 2]}, "0 for the best, and no gap"),
    (RatingKind.RANKING, {"ranks": [1, 2]}, "0 for the best, and no gap"),
    (RatingKind.DEMONSTRATIONS, {"text": ""}, "write some text"),
    (RatingKind.ACCEPT, {"accepted": 1, "edited": None}, "accepted: expected true or false"),
    (RatingKind.ACCEPT, {"accepted": False, "edited": "x"}, "an edited answer is one that is accepted"),
  ],
)
def test_what_is_no_label(kind, label, message):
  with pytest.raises(BadLabel, match=message):
    checked(label, PAIR, [0, 1], rules(kind))


def test_ties_and_edits_are_options():
  with pytest.raises(BadLabel, match="say which answer is better"):
    checked(pair(None, None), PAIR, [0, 1], rules(RatingKind.PAIRS, ties=False))
  with pytest.raises(BadLabel, match="expected an order of all"):
    checked({"ranks": [0, 0]}, PAIR, [0, 1], rules(RatingKind.RANKING, ties=False))
  with pytest.raises(BadLabel, match="not edited in this study"):
    checked(pair(edited="new"), PAIR, [0, 1], rules(RatingKind.PAIRS, edits=False))


@pytest.mark.parametrize(
  ("label", "known", "right"),
  [
    (pair(0), {"better": 0}, True),
    (pair(1), {"better": 0}, False),
    (pair(None, None), {"better": 0}, False),
    ({"accepted": False, "edited": None}, {"accepted": False}, True),
    ({"ranks": [0, 1, 2]}, {"ranks": [0, 1, 1]}, True),
    ({"ranks": [0, 2, 1]}, {"ranks": [0, 1, 1]}, True),
    ({"ranks": [1, 0, 2]}, {"ranks": [0, 1, 1]}, False),
    ({"ranks": [0, 0, 1]}, {"ranks": [0, 1, 2]}, False),
  ],
)
def test_whether_a_check_is_right(label, known, right):
  assert is_right(label, known) is right
