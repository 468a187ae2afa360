"""Tests which tokens of an answer a reward model sees."""

import numpy as np
import pytest

from posttrain_jax.assembly.answer_summaries import of_summaries, summary_start
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.vocabularies import tiny_tokenizer, word_tokenizer
from posttrain_jax.types import Group, Prompt
from tests.pipelines.made_groups import answer

TOKENIZER = tiny_tokenizer([*"0123", "</think>", "x</think>"])


def tokens(*pieces):
  return [id for piece in pieces for id in TOKENIZER.encode(piece)]


@pytest.mark.parametrize(
  ("pieces", "start"),
  [
    (("01", "</think>", "23"), 3),
    (("01", "23"), 0),
    (("</think>",), 1),
    (("0", "</think>", "1", "</think>", "2"), 4),  # the last end counts
    (("0", "x</think>", "2"), 2),
    ((), 0),
  ],
)
def test_the_summary_begins_after_the_last_end(pieces, start):
  assert summary_start(TOKENIZER, np.array(tokens(*pieces), np.int32), "</think>") == start


def test_an_end_may_be_of_several_tokens():
  spelled = tiny_tokenizer("</think>01")
  ids = np.array(spelled.encode("01</think>10"), np.int32)
  assert summary_start(spelled, ids, "</think>") == 2 + len("</think>")


def test_only_rows_that_ask_for_it_are_cut():
  seen = []

  def score(groups):
    seen.extend([answer.tokens.tolist() for answer in group.answers] for group in groups)
    return [np.zeros(len(group.answers)) for group in groups]

  thought, plain = tokens("01", "</think>", "2"), tokens("3")
  answers = (answer(thought), answer(plain))
  groups = [Group(Prompt(0, (2,), row), answers) for row in ({"judged": "summary"}, {"judged": "answer"}, {})]
  assert len(of_summaries(score, TOKENIZER, "</think>")(groups)) == 3
  assert seen == [[tokens("2"), plain], [thought, plain], [thought, plain]]
  assert [len(each.tokens) for each in answers] == [len(thought), 1]  # what is trained on stays whole


def test_the_worlds_tags_are_tokens():
  tokenizer = word_tokenizer(vocabulary())
  ids = np.array(tokenizer.encode("<think> first 3 + 4 = 7 . </think> so answer : 7"), np.int32)
  assert tokenizer.decode(ids[summary_start(tokenizer, ids, "</think>") :]) == "so answer : 7"
