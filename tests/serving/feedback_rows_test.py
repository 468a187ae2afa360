"""Tests that rows of feedback are what each method's own reader takes."""

import numpy as np
import pytest

from posttrain_jax.data.encoding import encode_demonstrations
from posttrain_jax.data.preferences import read_comparisons
from posttrain_jax.data.prompts import PromptFormat, Row
from posttrain_jax.data.vocabularies import byte_tokenizer
from posttrain_jax.evaluation.labelled_pairs import read_labels
from posttrain_jax.serving import feedback_rows
from posttrain_jax.serving.feedback_rows import GivenAnswer, Origin

BYTES = byte_tokenizer()
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
ONE = GivenAnswer("Good day", "new", "12", {"temperature": 0.7, "seed": 1})
OTHER = GivenAnswer("What?", "old", None, {"temperature": 0.7, "seed": 2})
ORIGIN = Origin("client-01", "feedback-01", "2026-11-29T12:00:00Z")


def prompts():
  return [feedback_rows.asked(CHAT, has_chat_template=known) for known in (True, False)]


def words(example):
  return BYTES.decode(example.tokens[example.mask], skip_special_tokens=True)


def test_a_prompt_is_messages_or_text():
  assert prompts() == [CHAT, "Hi"]


@pytest.mark.parametrize("prompt", prompts())
def test_a_vote_is_a_comparison_and_a_label(prompt):
  row = Row(feedback_rows.vote(prompt, ONE, OTHER, ORIGIN), "votes.jsonl:1")
  limits = dict(max_prompt_length=100, max_answer_length=100)
  (found,), _ = read_comparisons([row], BYTES, prompt_format=PromptFormat(), **limits)
  assert [BYTES.decode(answer, skip_special_tokens=True) for answer in found.answers] == ["Good day", "What?"]
  assert row.columns["chosen_from"] == "new" and row.columns["rejected_sampling"] == {"temperature": 0.7, "seed": 2}
  assert row.columns["chosen_version"] == "12" and row.columns["client"] == "client-01"
  assert read_labels([row])[0][0].models == ("new", "old")


@pytest.mark.parametrize("prompt", prompts())
def test_an_edit_is_a_demonstration_and_a_comparison(prompt):
  row = Row(feedback_rows.edit(prompt, OTHER, "Hello!", ORIGIN), "edits.jsonl:1")
  (found,), _ = read_comparisons(
    [row], BYTES, prompt_format=PromptFormat(), max_prompt_length=100, max_answer_length=100
  )
  assert [BYTES.decode(answer, skip_special_tokens=True) for answer in found.answers] == ["Hello!", "What?"]
  (example,) = encode_demonstrations([row], BYTES, chat=False)
  assert words(example) == "Hello!"


@pytest.mark.parametrize("prompt", prompts())
def test_a_liked_answer_is_a_demonstration(prompt):
  row = feedback_rows.thumb(prompt, ONE, True, ORIGIN)
  assert row["label"] is True
  (example,) = encode_demonstrations([Row(row, "liked.jsonl:1")], BYTES, chat=False)
  assert words(example) == "Good day"


def test_earlier_answers_of_a_conversation_are_learned_too():
  """The reader of demonstrations learns every turn of the assistant; docs/chatting.md says so."""
  before = [*CHAT, {"role": "assistant", "content": "What?"}, {"role": "user", "content": "Again"}]
  row = feedback_rows.edit(feedback_rows.asked(before, has_chat_template=True), OTHER, "Hello!", ORIGIN)
  (example,) = encode_demonstrations([Row(row, "edits.jsonl:1")], BYTES, chat=False)
  assert words(example) == "What?Hello!"


def test_a_tie_is_a_label():
  ((label,), _) = read_labels([Row(feedback_rows.tie("Hi", ONE, OTHER, ORIGIN), "ties.jsonl:1")])
  assert (label.models, label.outcome) == (("new", "old"), 0.5)


def test_a_conversation_becomes_demonstrations():
  chat = [*CHAT, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
  chat.append({"role": "assistant", "content": "c"})
  (row,) = feedback_rows.demonstration(chat, has_chat_template=True, model="new")
  (example,) = encode_demonstrations([Row(row, "saved.jsonl:1")], BYTES, chat=False)
  assert words(example) == "ac" and row["model"] == "new"
  rows = feedback_rows.demonstration(chat, has_chat_template=False)
  assert rows == [{"prompt": "Hi", "completion": "a"}, {"prompt": "b", "completion": "c"}]
  found = encode_demonstrations([Row(each, "saved.jsonl:1") for each in rows], BYTES, chat=False)
  assert [words(each) for each in found] == ["a", "c"] and all(np.any(each.mask) for each in found)
