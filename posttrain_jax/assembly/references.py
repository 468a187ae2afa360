"""Checks that references are graded right by their own verifier.

The check runs before anything is compiled.

A reference that its verifier reads differently, such as a whole sentence in place of a number, makes every answer to
its prompt wrong, in silence.
"""

import re
from collections.abc import Sequence

from absl import logging

from posttrain_jax.rewards import extract, symbolic, verifiers
from posttrain_jax.rewards.extract import AnswerStyle
from posttrain_jax.rewards.judge import check_reference
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers
from posttrain_jax.types import InputError, Prompt

_MANY_WORDS = 12  # of a reference which an answer will hardly ever repeat word for word

# The verifiers that compare with a reference, and their default style.
_VERIFIERS = {
  f"{verifiers.__name__}:exact_answer": AnswerStyle.ANSWER_LINE,
  f"{symbolic.__name__}:math_equal": AnswerStyle.BOXED,
}


def reference_column(function: RewardFunction) -> str | None:
  """Returns the column that a verifier reads its reference from.

  It is None if the function is another one.
  """
  return str(function.options.get("column", "answer")) if function.path in _VERIFIERS else None


def reference_columns(functions: Sequence[RewardFunction]) -> frozenset[str]:
  """Returns the columns that the reward functions read references from."""
  return frozenset(column for column in map(reference_column, functions) if column is not None)


def has_references(prompt: Prompt, columns: frozenset[str]) -> bool:
  """Tells whether a prompt's row has something in all reference columns."""
  return all(prompt.row.get(column) not in (None, "") for column in columns)


def check_references(workers: RewardWorkers, prompts: Sequence[Prompt], *, required: bool = True) -> None:
  """Has each verifier grade the references themselves, stated as an answer should state them.

  Reward functions of one's own are not checked: only they know what they read.

  Args:
    workers: run the reward functions.
    prompts: the prompts with their rows.
    required: whether every row must have a reference. If not, rows without one are left out.

  Raises:
    InputError: if a reference is missing, or if it is not graded right. The message names the first such row.
  """
  for index, function in enumerate(workers.functions):
    column = reference_column(function)
    if column is None:
      continue
    asked = [prompt for prompt in prompts if required or has_references(prompt, frozenset({column}))]
    for prompt in asked:
      check_reference(prompt.row, prompt.source, column)
    style = AnswerStyle(function.options.get("style", _VERIFIERS[function.path]))
    references = [extract.reference_answer(prompt.row[column]) for prompt in asked]
    texts = [extract.stated(reference, style) for reference in references]
    scores = workers.judge(index, texts, [prompt.row for prompt in asked])
    for position in (i for i, reward in enumerate(scores.rewards) if reward != 1):
      why = f"fails on it ({scores.reasons[position]})" if position in scores.reasons else "does not grade it right"
      raise InputError(
        f"{asked[position].source}: column {column!r}: the reference {_shown(references[position])} is stated as "
        f"{_shown(texts[position])}, and {function.name} {why}; expected a reference that rewards.functions."
        f"{function.name} (style {style}) reads back"
      )
    _warn_of_sentences(asked, references)


def _warn_of_sentences(prompts: Sequence[Prompt], references: Sequence[str]) -> None:
  long = [i for i, reference in enumerate(references) if _is_sentence(reference)]
  if long:
    logging.warning(
      "%s: the reference %s is a sentence, and only these very words are right (%d references of %d are like it)",
      prompts[long[0]].source,
      _shown(references[long[0]]),
      len(long),
      len(references),
    )


def _is_sentence(reference: str) -> bool:
  said = re.search(r"(?i)\banswer\b.*\b(?:is|are|equals)\b", reference)  # The answer is 5.
  return "\\" not in reference and (said is not None or len(reference.split()) > _MANY_WORDS)


def _shown(text: str) -> str:
  return repr(text if len(text) <= 80 else f"{text[:40]}…{text[-40:]}")
