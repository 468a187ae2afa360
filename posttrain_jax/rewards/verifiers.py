"""Reward functions that a rule can decide: is the final answer right, is the format kept.

A reward function is a plain function `f(texts, rows, **options) -> rewards`, named in configs as "module:function": one
reward for each answer text, given the columns of the data row it answers (row["answer"] is the reference). It must
accept an empty batch, which is how its options are checked before training. What it raises, or a value that is None or
not finite, makes an answer invalid, which is not a reward of 0. No jax here: reward workers import this module.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.rewards import equality, extract


def exact_answer(
  texts: Sequence[str],
  rows: Sequence[Mapping[str, Any]],
  *,
  style: str = extract.AnswerStyle.ANSWER_LINE,
  column: str = "answer",
  incorrect: float = 0.0,
) -> list[float]:
  """1 where the final answer is the reference, `incorrect` elsewhere, also where no answer is found.

  DAPO (2503.14476) uses `style="answer_line"` and `incorrect=-1`; R1-Zero (2501.12948) "boxed" or "tag".

  Args:
    texts: n answers.
    rows: their n data rows.
    style: an `extract.AnswerStyle`: where the answer has to stand.
    column: the rows' column with the reference (see `extract.reference_answer`).
    incorrect: reward of a wrong answer.

  Raises:
    ValueError: unknown style, or a row's reference is missing or empty.
  """
  style = extract.AnswerStyle(style)
  rewards = []
  for text, row in zip(texts, rows, strict=True):
    reference = extract.reference_answer(row.get(column))
    answer = extract.find_answer(text, style)
    rewards.append(1.0 if answer is not None and equality.same_answer(answer, reference) else incorrect)
  return rewards


def answer_line_format(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
  """1 where the text has a non-empty `Answer:` line within its last 300 characters, else 0."""
  del rows
  return [float(extract.answer_line(text) is not None) for text in texts]


def think_answer_format(
  texts: Sequence[str], rows: Sequence[Mapping[str, Any]], *, prompt_opens_think: bool = False
) -> list[float]:
  """1 where the text is `<think>...</think><answer>...</answer>` and nothing else, else 0 (R1-Zero, 2501.12948).

  Each tag exactly once, in this order, neither part empty, only white space around and between the parts.

  Args:
    texts: n answers.
    rows: their n data rows, not looked at.
    prompt_opens_think: the prompt ends with `<think>`, so the text starts inside it.
  """
  del rows
  return [float(_follows_template("<think>" + text if prompt_opens_think else text)) for text in texts]


def _follows_template(text: str) -> bool:
  tags = ("<think>", "</think>", "<answer>", "</answer>")
  if any(text.count(tag) != 1 for tag in tags):
    return False
  before, rest = text.split("<think>")
  thought, separator, rest = rest.partition("</think>")
  between, second_separator, rest = rest.partition("<answer>")
  answer, third_separator, after = rest.partition("</answer>")
  in_order = bool(separator and second_separator and third_separator)
  return in_order and not (before + between + after).strip() and bool(thought.strip()) and bool(answer.strip())
