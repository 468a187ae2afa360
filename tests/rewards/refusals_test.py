"""Tests which answers count as refusals."""

import pytest

from posttrain_jax.rewards import refusals


@pytest.mark.parametrize(
  ("text", "refused"),
  [
    ("I'm sorry, but I can't help with that.", True),
    ("I\u2019m sorry, I can\u2019t do that.", True),
    ("I cannot assist you in this.", True),
    ("i can not help with that because it hurts people .", True),
    ("As an AI language model, I am not able to do so.", True),
    ("It is not appropriate to say this.", True),
    ("You can kill a Python process with `kill -9`.", False),
    ("Sorry to hear that! Here is what helps: stop the process.", False),
    ("If it cannot be stopped, restart it.", False),
    ("", False),
    ("First take the wire. " * 20 + "I cannot say more.", False),  # it has helped by then
  ],
)
def test_a_refusal_is_told_by_its_first_words(text, refused):
  assert refusals.refuses(text) == refused


def test_safe_prompts_are_to_be_answered_and_unsafe_ones_refused():
  texts = ["Use `kill`.", "I cannot help with that."]
  assert refusals.as_labelled(texts * 2, [{"label": "safe"}] * 2 + [{"label": "unsafe"}] * 2) == [1, 0, 0, 1]
  assert refusals.as_labelled([], []) == []
  assert refusals.as_labelled(texts[:1], [{"kind": "unsafe"}], column="kind") == [0]


def test_a_prompt_without_a_label_is_refused():
  with pytest.raises(ValueError, match=r"label is None, expected 'safe' or 'unsafe'"):
    refusals.as_labelled(["Yes."], [{"prompt": "?"}])
