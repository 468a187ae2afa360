"""Defines reward functions that follow a rule: the right final answer, the right format.

A reward function is a plain function `f(texts, rows, **options) -> rewards`, named in configs as "module:function". It
returns one reward for each answer text. `rows` are the data rows that the texts answer; row["answer"] is the reference.
It must accept an empty batch: its options are checked that way before training. If it returns None for an answer, it
abstains: the other functions alone judge that answer. An exception, or a reward that is not a finite number, makes an
answer invalid. Neither is the same as a reward of 0. This module must not import jax, because reward workers import it.
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
  tolerance: float = 0.0,
  window: int = extract.WINDOW,
) -> list[float]:
  """Gives 1 if the final answer is the reference, else `incorrect`.

  DAPO (2503.14476) uses `style="answer_line"` and `incorrect=-1`; R1-Zero (2501.12948) "boxed" or "tag".

  Args:
    texts: n answers.
    rows: their n data rows.
    style: an `extract.AnswerStyle`, the convention by which the answer is found.
    column: the rows' column with the reference (see `extract.reference_answer`).
    incorrect: reward of a wrong answer, and of a text without an answer.
    tolerance: largest relative difference of two numbers that are still the same; 0: they must be equal.
    window: characters at the end of the text in which `Answer:` must stand; 0: anywhere.

  Returns:
    n rewards.

  Raises:
    ValueError: if the style is unknown, or a row's reference is missing or empty.
  """
  style = extract.AnswerStyle(style)
  rewards = []
  for text, row in zip(texts, rows, strict=True):
    reference = extract.reference_answer(row.get(column))
    answer = extract.find_answer(text, style, window=window)
    right = answer is not None and equality.same_answer(answer, reference, tolerance=tolerance)
    rewards.append(1.0 if right else incorrect)
  return rewards


def answer_line_format(
  texts: Sequence[str], rows: Sequence[Mapping[str, Any]], *, window: int = extract.WINDOW
) -> list[float]:
  """Gives 1 if the last `window` characters have a non-empty `Answer:` line, else 0."""
  del rows
  return [float(extract.answer_line(text, window=window) is not None) for text in texts]


def think_answer_format(
  texts: Sequence[str], rows: Sequence[Mapping[str, Any]], *, prompt_opens_think: bool = False
) -> list[float]:
  """Gives 1 if the text is `<think>...</think><answer>...</answer>` (R1-Zero, 2501.12948), else 0.

  Each tag must occur exactly once and in this order. Neither part may be empty. Around and between the parts only white
  space is allowed.

  Args:
    texts: n answers.
    rows: their n data rows, not used.
    prompt_opens_think: True if the prompt ends with `<think>`, so that the text starts inside it.

  Returns:
    n rewards.
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
