import dataclasses

import pytest

from posttrain_jax.data import arithmetic, tagged
from posttrain_jax.data.demonstrations import SYMBOLS, USUAL_CROWD, demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.rewards import extract, verifiers
from posttrain_jax.types import InputError

ROWS = demonstrations(
  arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=30), crowd=dataclasses.replace(USUAL_CROWD, slip=0.2)
)


def test_the_same_answers_in_another_template():
  rows = tagged.tag_some(ROWS, share=1.0)
  texts = [row["completion"] for row in rows]
  assert verifiers.think_answer_format(texts, rows) == [1.0] * len(rows)
  assert verifiers.think_answer_format([row["completion"] for row in ROWS], ROWS) == [0.0] * len(rows)
  assert [extract.tag(text) for text in texts] == [extract.answer_line(row["completion"]) for row in ROWS]
  tokenizer = tiny_tokenizer((*SYMBOLS, *tagged.TAGS))
  assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in texts)
  assert {row["demonstrator"] for row in rows} == {"careful", "hasty", "rambling"}


@pytest.mark.parametrize(
  ("completion", "expected"),
  [
    ("+8=5-2=3 Answer: 3", "<think>+8=5-2=3</think><answer>3</answer>"),
    ("+8=5-2=3 Wait, +8=5-2=3 Answer: 3", "<think>+8=5-2=3 Wait, +8=5-2=3</think><answer>3</answer>"),
    (" Answer: 5", "<think>-2=5</think><answer>5</answer>"),  # 7-2: skimmed
  ],
)
def test_by_hand(completion, expected):
  row = {"prompt": "7+8-2=", "completion": completion}
  assert tagged.tag_some([row], share=1.0) == [{"prompt": "7+8-2=", "completion": expected}]
  assert tagged.tag_some([row], share=0.0) == [row]


def test_a_share_of_them_drawn_by_the_seed():
  some = tagged.tag_some(ROWS, share=0.3)
  count = sum("<think>" in row["completion"] for row in some)
  assert 0.2 * len(ROWS) < count < 0.4 * len(ROWS)
  assert some == tagged.tag_some(ROWS, share=0.3) != tagged.tag_some(ROWS, share=0.3, seed=1)
  with pytest.raises(InputError, match=r"demonstrations\.tagged: 1\.5, expected a share"):
    tagged.tag_some(ROWS, share=1.5)
