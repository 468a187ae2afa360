"""Tests that judgements by the rules say why, that their reasons decide the score, and that models can read them."""

import collections
import dataclasses
import random

import pytest

from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.judgements import HIGH, LOW, WORDING, judgement, reasons, score
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.taste import OTHER_TASTE, USUAL_TASTE, utility
from posttrain_jax.data.judgements import judgements, parse_score
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.vocabularies import word_tokenizer
from tests.data.assistant_world import rules_test as said
from tests.data.assistant_world.small_world import WORLD


@pytest.mark.parametrize(
  "request_, text, written",
  [
    (said.FACT, said.TOLD, "the colour of bala is red . you say red . the answer is right ."),
    (said.FACT, "the colour of bala is blue .", "the colour of bala is red . you say blue . the answer is wrong ."),
    (said.FACT, "i do not know the colour of bala .", "the colour of bala is red . the answer is not sure ."),
    (said.ONE_WORD, said.TOLD,
     "the colour of bala is red . you say red . the answer is right . mistake : not one word ."),
    (said.FACT, f"{said.TOLD} {said.TOLD}",
     "the colour of bala is red . you say red . the answer is right . mistake : say only the answer ."),
    (said.UNKNOWN, "i do not know the colour of bala .", "i do not know the colour of bala . the answer is right ."),
    (said.UNKNOWN, said.TOLD, "i do not know the colour of bala . you say red . the answer is wrong ."),
    (said.HARM, said.RECIPE, "a zalp is not safe because fire hurts people . the answer is not safe ."),
    (said.HARM, said.REFUSAL, "a zalp is not safe because fire hurts people . the answer is safe and right ."),
    (said.HISTORY, said.REFUSAL, None),
  ],
)  # fmt: skip
def test_reasons_by_hand(request_, text, written):
  if written is None:  # a refusal of what is no harm
    assert "the answer is not help" in reasons(request_, text)
  else:
    assert reasons(request_, text) == written


def test_scores_by_hand():
  # From -2, the worst utility, to 2 + 1 + 1 + 0.5, the best: 9 steps over 6.5.
  assert score(said.FACT, said.TOLD) == round(9 * (3.5 + 2) / 6.5) == 8
  assert score(said.FACT, "the colour of bala is blue .") == round(9 * (0.5 + 2) / 6.5) == 3
  assert score(said.HARM, said.REFUSAL) == HIGH == 9
  spiteful = dataclasses.replace(USUAL_TASTE, helpful=1.0, honest=9.0)  # a wrong claim costs more than the scale has
  assert score(said.FACT, "the colour of bala is blue .", spiteful) == LOW


def drawn():
  """Yields requests of all kinds with answers of all authors, good and bad."""
  writer, rng = AnswerWriter(WORLD, 0), random.Random(0)
  for kind in RequestKind:
    requests = draw_requests(WORLD, kind, RequestPart.ALL, 30)
    for request in requests:
      for author in Author:
        yield request, writer.answer(request, author)
      yield request, writer.wrong(request)
      yield request, writer.answer(rng.choice(requests), Author.CAREFUL)


@pytest.mark.parametrize("taste", [USUAL_TASTE, OTHER_TASTE])
def test_the_reasons_decide_the_score_and_it_follows_the_utility(taste):
  scores, found = collections.defaultdict(set), []
  for request, text in drawn():
    row = judgement(request, text, taste=taste)
    verdict = row["rationale"][row["rationale"].index("the answer is ") :]
    scores[request.is_harmful, request.kind == RequestKind.UNKNOWN, verdict].add(row["score"])
    found.append((utility(request, text, taste), row["score"]))
  assert [key for key, values in scores.items() if len(values) > 1] == []
  assert len(scores) > 15 and {score for _, score in found} >= {2, 3, 6, 8, 9}
  found.sort()
  assert [score for _, score in found] == sorted(score for _, score in found)


def test_judgements_are_in_the_vocabulary_and_their_scores_can_be_read():
  tokenizer, longest = word_tokenizer(language.vocabulary()), 0
  for request, text in drawn():
    (row,) = judgements([Row(judgement(request, text), "row")], low=LOW, high=HIGH, wording=WORDING)
    assert row.columns["prompt"] == f"user : {request.text} assistant : {text} critique :"
    written = tokenizer.decode(tokenizer.encode(row.columns["completion"]))
    assert parse_score(written, low=LOW, high=HIGH, mark=WORDING.shown_mark) == row.columns["label"]
    longest = max(longest, len(tokenizer.encode(row.columns["prompt"])) + len(tokenizer.encode(written)))
  assert longest < 200
