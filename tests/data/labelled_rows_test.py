"""Tests rows of single answers: forms of prompt and answer, labels, and what is refused."""

import pytest

from posttrain_jax.data.labelled_rows import labelled_answer
from posttrain_jax.data.preference_rows import BadRow, judgement

ROW = {"prompt": "hi", "completion": "hello", "label": True}
USER = {"role": "user", "content": "hi"}
HELLO = {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"label": False, "model": "m", "chosen": None},  # other columns and null ones mean nothing
    {"prompt": [USER]},
    {"prompt": [USER], "completion": [HELLO]},
    {"completion": [HELLO]},
    {"completion": [USER, HELLO]},
  ],
)
def test_a_row_is_one_answer_with_its_label(changes):
  row = ROW | changes
  said = labelled_answer(row)
  assert said.answers == (HELLO,) and said.ranks == (0,) and said.desirable is row["label"]
  assert said.prompt == ("hi" if all(isinstance(row[name], str) for name in ("prompt", "completion")) else (USER,))


def test_tools_come_along():
  tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
  assert labelled_answer({**ROW, "tools": tools}).tools == tools


@pytest.mark.parametrize(
  ("changes", "reason", "message"),
  [
    ({"label": None}, "missing_column", "no 'label' among the columns prompt, completion"),
    ({"completion": None}, "missing_column", "no 'completion' among the columns prompt, label"),
    ({"prompt": None, "label": None}, "missing_column", "no 'prompt' and no 'label' among the columns completion"),
    ({"label": 1}, "bad_label", "label is 1, expected true or false"),
    ({"label": "good"}, "bad_label", "label is 'good', expected true or false"),
    ({"prompt": " "}, "empty_prompt", "prompt is ' ', expected text"),
    ({"completion": 3}, "malformed_messages", "completion is 3, expected text or a list of messages"),
    ({"completion": [USER]}, "malformed_messages", "completion ends with"),
  ],
)
def test_a_bad_row_is_refused_with_the_reason_it_is_counted_by(changes, reason, message):
  with pytest.raises(BadRow, match=message) as error:
    labelled_answer(ROW | changes)
  assert error.value.reason == reason


def test_pairs_and_single_answers_are_not_read_as_each_other():
  with pytest.raises(BadRow, match="no 'completion' and no 'label' among the columns prompt, chosen, rejected"):
    labelled_answer({"prompt": "hi", "chosen": "b", "rejected": "c"})
  with pytest.raises(BadRow, match=r"need preferences\.form=single and objective\.loss=kto") as error:
    judgement(ROW)
  assert error.value.reason == "single_answer"
  assert judgement({**ROW, "chosen": "b", "rejected": "c"}).desirable is None  # an edit has a completion, too
