"""Tests which tokens are scores, where they stand, and both ways to read them."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from posttrain_jax.assembly.score_reading import ScoreReader, mean_of_votes, score_position, score_tokens
from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.judgements import WORDING
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError, Prompt
from tests.assembly.tiny_judge import MODEL, TOKENIZER, Scripted, expected_alone, params

MARK = "Score:"
WORDS = word_tokenizer(language.vocabulary())


def test_tokens_of_scores():
  tokens = score_tokens(TOKENIZER, low=0, high=9, mark=MARK)
  assert [TOKENIZER.decode([token]) for token in tokens] == list("0123456789")
  with pytest.raises(InputError, match="not one token each"):
    score_tokens(TOKENIZER, low=8, high=11, mark=MARK)
  own = score_tokens(WORDS, low=0, high=9, mark=WORDING.shown_mark)
  assert own.tolist() == [WORDS.encode(str(score))[0] for score in range(10)]


@pytest.mark.parametrize(
  "text, expected",
  [("+8=5 Score: 1", 3), ("+8=5 Score: 1 Score: 0", 5), ("+8=5 Answer: 1", None), ("+8=5 Score: ", None)],
)
def test_where_the_score_stands(text, expected):
  tokens = np.array([*TOKENIZER.encode(text), TOKENIZER.eos_id], np.int32)
  assert score_position(TOKENIZER, tokens, score_tokens(TOKENIZER, low=0, high=1, mark=MARK), mark=MARK) == expected


@pytest.mark.parametrize(
  "text, expected", [("3 + 4 = 7 . score : 7", 8), ("score : 7 . score 5", 2), ("answer : 7", None)]
)
def test_where_the_score_stands_among_words(text, expected):
  mark = WORDING.shown_mark
  tokens = score_tokens(WORDS, low=0, high=9, mark=mark)
  assert score_position(WORDS, np.array(WORDS.encode(text), np.int32), tokens, mark=mark) == expected


def test_both_readings_of_several_judgements():
  reader = ScoreReader(MODEL, TOKENIZER, make_mesh({}, jax.devices()[:1]), low=0, high=3, mark=MARK)
  asked = ["1+1= Answer: 2 Wait, ", "1+2= Answer: 4 Wait, "]
  written = [["+1=2 Score: 3", "+1=2", "+1=3 Score: 9"], [" Score: 0 Score: 2", "+2=3 Score: 2", "Score"]]
  written[1][2] = "+2=3 Score: 1"
  prompts = [Prompt(i, tuple(TOKENIZER.encode(text)), {}) for i, text in enumerate(asked)]
  judged = reader.with_texts(Scripted(written).generate(prompts, 3))
  assert judged[0].texts == tuple(written[0])
  nan = math.nan
  # Nothing written, a score out of range, and two scores on one line are none.
  np.testing.assert_array_equal(reader.sampled(judged), [[3, nan, nan], [nan, 2, 1]])
  after = expected_alone(asked[1] + "+2=3 Score: ", "0123")
  expected = [[expected_alone(asked[0] + "+1=2 Score: ", "0123"), nan, nan], [nan, after, after]]
  found = reader.expected(params(), judged)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert 0 < after < 3 and after != pytest.approx(expected[0][0], rel=1e-3)  # the question and the reasons count
  # Of a single group, each reading by itself.
  alone = dataclasses.replace(judged[1], answers=judged[1].answers[1:2], texts=judged[1].texts[1:2])
  np.testing.assert_allclose(reader.expected(params(), [alone]), [[after]], rtol=1e-5)


def test_votes_abstain():
  nan = math.nan
  found = mean_of_votes(np.array([[1, 3, nan], [nan, nan, nan], [0, 0, 0]]))
  np.testing.assert_array_equal(found, [2, nan, 0])
