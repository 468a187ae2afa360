import random

import pytest

from posttrain_jax.data.assistant_world.answers import AnswerWriter
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.raters import compare, likes, rank
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.preference_rows import Strength, judgement
from tests.data.assistant_world import rules_test as said
from tests.data.assistant_world.small_world import WORLD

WRONG = "the colour of bala is blue ."


def test_the_rater_prefers_the_better_answer_mostly():
  # The utilities are 3.5 and 0.5 and the noise is logistic of scale 0.3: the wrong one wins once in e^10.
  rng = random.Random(0)
  assert all(compare(said.FACT, (WRONG, said.TOLD), rng)["chosen"] == said.TOLD for _ in range(50))
  # A difference of 0.5 is 1 / (1 + e^(-0.5 / 0.3)) = 84 %.
  long = f"{said.TOLD} {said.TOLD}"
  share = sum(compare(said.FACT, (long, said.TOLD), rng)["chosen"] == said.TOLD for _ in range(500)) / 500
  assert share == pytest.approx(0.84, abs=0.05)


def test_rows_are_read_as_preferences_of_four_strengths():
  rng, found = random.Random(0), set()
  texts = [said.TOLD, WRONG, f"{said.TOLD} {said.TOLD}", "red", "the weather is cold today ."]
  for _ in range(200):
    row = compare(said.FACT, tuple(rng.sample(texts, 2)), rng)
    found.add(judgement(row).strength)
  assert found == {*Strength}
  assert compare(said.FACT, (WRONG, WRONG), rng) is None


def test_an_edit_is_better_than_the_chosen_answer():
  writer, rng = AnswerWriter(WORLD, 0), random.Random(0)
  (request,) = draw_requests(WORLD, RequestKind.HARM, RequestPart.TRAIN, 1)
  row = compare(request, ("sorry , i can not help with that .", "the weather is cold today ."), rng, editor=writer)
  assert len(judgement(row).answers) == 3 and "because" in row["edited"]
  row = compare(request, (row["edited"], "the weather is cold today ."), rng, editor=writer)
  assert "edited" not in row  # nothing is better than the best


def test_the_second_rater_ranks_all_different_answers():
  row = rank(said.FACT, [WRONG, said.TOLD, "the weather is cold today .", WRONG], random.Random(0))
  assert row["answers"] == [WRONG, said.TOLD, "the weather is cold today ."]
  assert sorted(row["ranks"]) == [0, 1, 2] and row["ranks"][1] == 0
  assert judgement(row).ranks == tuple(row["ranks"])
  assert rank(said.FACT, [WRONG, WRONG], random.Random(0)) is None


def test_a_right_answer_is_liked_and_a_wrong_one_is_not_mostly():
  # The utilities are 3.5 and 0.5, both 1.5 from what a thumb up takes: the noise is larger once in 1 + e^5 = 149.
  rng = random.Random(0)
  right, wrong = ([likes(said.FACT, text, rng) for _ in range(500)] for text in (said.TOLD, WRONG))
  assert sum(right) > 485 and sum(wrong) < 15
  # One of 1.5 is 0.5 too little: it is liked in 1 / (1 + e^(0.5 / 0.3)) = 16 %.
  share = sum(likes(said.FACT, "i do not know .", rng) for _ in range(500)) / 500
  assert share == pytest.approx(0.16, abs=0.05)
