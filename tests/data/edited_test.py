import pytest

from posttrain_jax.data import edited
from posttrain_jax.data.preferences import read_comparisons
from posttrain_jax.data.prompts import PromptFormat, Row
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

TEXT = {"prompt": "p", "edited": "e", "chosen": "c", "rejected": "r", "strength": "better", "id": 7}
USER = {"role": "user", "content": "p"}


def assistant(text):
  return {"role": "assistant", "content": text}


TALK = {"prompt": [USER], "edited": [USER, assistant("e")], "chosen": "c", "rejected": [assistant("r")]}


def test_the_edited_answer_is_the_target():
  text, talk = edited.targets([Row(TEXT, "f:1"), Row(TALK, "f:2")])
  assert (text.columns, text.source) == ({"prompt": "p", "completion": "e", "id": 7}, "f:1")
  assert (talk.columns, talk.source) == ({"messages": [USER, assistant("e")]}, "f:2")


def test_a_row_is_three_pairs_and_the_strength_is_of_one():
  made = edited.ranked_pairs([Row(TEXT, "f:1")])
  assert [(row.columns["chosen"], row.columns["rejected"]) for row in made] == [("e", "c"), ("e", "r"), ("c", "r")]
  assert [row.columns.get("strength") for row in made] == [None, None, "better"]
  assert all(row.columns["prompt"] == "p" and row.columns["id"] == 7 and row.source == "f:1" for row in made)
  assert not any("edited" in row.columns for row in made)


def test_pairs_of_conversations_are_conversations():
  made = edited.ranked_pairs([Row(TALK, "f:1")])
  assert [row.columns for row in made] == [
    {"prompt": [USER], "chosen": [assistant(better)], "rejected": [assistant(worse)]}
    for better, worse in ("ec", "er", "cr")
  ]


@pytest.mark.parametrize("row", [TEXT, TALK])
def test_pairs_can_be_read(row):
  template = "{% for m in messages %}{{ m.role[0] + m.content + ';' }}{% endfor %}{{ 'a' if add_generation_prompt }}"
  tokenizer = tiny_tokenizer("pecrua;", chat_template=template)
  limits = {"max_prompt_length": 9, "max_answer_length": 9}
  made, _ = read_comparisons(edited.ranked_pairs([Row(row, "f:1")]), tokenizer, prompt_format=PromptFormat(), **limits)
  firsts = ["".join(tokenizer.decode(answer[:1]) for answer in comparison.answers) for comparison in made]
  assert firsts == ["ec", "er", "cr"]


@pytest.mark.parametrize(
  "change, message",
  [
    ({"edited": None}, "f:1: no 'edited' among the columns"),
    ({"rejected": None}, "f:1: no 'rejected' among the columns"),
    ({"edited": "c"}, "f:1: edited equals chosen, expected three different answers"),
    ({"edited": "r"}, "f:1: edited equals rejected"),
    ({"chosen": "r"}, "f:1: chosen equals rejected"),
    ({"prompt": ""}, "f:1: prompt is ''"),
  ],
)
@pytest.mark.parametrize("function", [edited.targets, edited.ranked_pairs])
def test_missing_and_equal_texts_are_refused(function, change, message):
  with pytest.raises(InputError, match=message):
    function([Row(TEXT | change, "f:1")])
