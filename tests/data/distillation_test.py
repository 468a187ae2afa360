import pytest

from posttrain_jax.data.distillation import REFLECTION_PROMPT, RowForm, distillation_samples
from posttrain_jax.data.prompts import Row
from posttrain_jax.types import InputError


def rows(*columns):
  return [Row(row, f"d.jsonl:{i}") for i, row in enumerate(columns, 1)]


def turn(role, content):
  return {"role": role, "content": content}


def test_both_samples_of_a_problem():
  problem = {"prompt": "2+3?", "answer": "5", "reasoner": "2+3 is 5. Check: 5-3 is 2. So 5"}
  samples, counts = distillation_samples(rows(problem))
  assert [row.columns for row in samples] == [
    {"messages": [turn("user", "2+3?"), turn("assistant", "5")]},
    {
      "messages": [
        turn("system", REFLECTION_PROMPT),
        turn("user", "2+3?"),
        turn("assistant", "2+3 is 5. Check: 5-3 is 2. So 5"),
      ]
    },
  ]
  assert counts == {"plain": 1, "reflective": 1, "rejected": 0}


def test_a_rejected_answer_of_the_reasoner_leaves_the_plain_sample():
  samples, counts = distillation_samples(
    rows(
      {"question": "a", "answer": "b", "reasoner": None},
      {"question": "c", "answer": "d"},
      {"question": "e", "answer": "f", "reasoner": "g"},
    ),
    form=RowForm.TEXT,
    system="think ",
  )
  assert [(row.columns["prompt"], row.columns["completion"], row.source) for row in samples] == [
    ("a", "b", "d.jsonl:1"),
    ("c", "d", "d.jsonl:2"),
    ("e", "f", "d.jsonl:3"),
    ("think e", "g", "d.jsonl:3"),
  ]
  assert counts == {"plain": 3, "reflective": 1, "rejected": 2}


@pytest.mark.parametrize(
  "row, message",
  [
    ({"answer": "b"}, "found columns answer; expected 'prompt' or 'question'"),
    ({"prompt": "a", "reasoner": "b"}, "found columns prompt, reasoner; expected 'answer'"),
    ({"prompt": "a", "answer": 5}, "answer is 5, expected text"),
    ({"prompt": "a", "answer": "b", "reasoner": " "}, "reasoner is ' ', expected text"),
  ],
)
def test_rows_that_cannot_be_used_are_named(row, message):
  with pytest.raises(InputError, match=f"^d.jsonl:2: {message}$"):
    distillation_samples(rows({"prompt": "a", "answer": "b"}, row))
