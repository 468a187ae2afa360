"""Makes demonstrations from a stronger reasoner's answers.

Each problem gives two samples (DeepSeek-V3, arXiv:2412.19437, §5.1). <problem, original answer> keeps the form of the
original answers. <system prompt, problem, reasoner's answer> teaches to reflect and verify, because the system prompt
asks for it. After RL, the model reflects and verifies without that system prompt, too.
"""

import enum
from collections.abc import Iterable, Sequence
from typing import Any

from posttrain_jax.data.prompts import Row
from posttrain_jax.types import InputError

REFLECTION_PROMPT = (
  "Think the problem through before you answer. Check every step once you have made it, look at the problem from "
  "another side where you are unsure, correct yourself where you were wrong, and verify the result before you state it."
)
PROBLEM_FIELDS = ("prompt", "question")


class RowForm(enum.StrEnum):
  """Lists the ways to write a demonstration as a row."""

  MESSAGES = "messages"  # for models with a chat template
  TEXT = "text"  # "prompt" and "completion"; the system prompt comes before the problem


def distillation_samples(
  rows: Iterable[Row], *, system: str = REFLECTION_PROMPT, form: RowForm = RowForm.MESSAGES
) -> tuple[list[Row], dict[str, int]]:
  """Makes both samples of each problem.

  Args:
    rows: columns "prompt" or "question", the original "answer", and "reasoner", all of them text. "reasoner" is the
      reasoner's answer; it is None or absent if that answer was rejected.
    system: system prompt that asks for reflection and verification. Only the reasoner's answers get it.
    form: how a demonstration is written.

  Returns:
    (rows, counts). Rows have "messages", or "prompt" and "completion", and the source of their problem. Counts are
    "plain", "reflective" and "rejected". A problem whose reasoner's answer was rejected gives the plain sample only.

  Raises:
    InputError: if a row has no problem or no answer, or one of them is not text. The message names the row's source.
  """
  samples, counts = [], {"plain": 0, "reflective": 0, "rejected": 0}
  for row in rows:
    problem, original = _text(row, PROBLEM_FIELDS), _text(row, ("answer",))
    samples.append(Row(_written(None, problem, original, form), row.source))
    counts["plain"] += 1
    if row.columns.get("reasoner") is None:
      counts["rejected"] += 1
      continue
    samples.append(Row(_written(system, problem, _text(row, ("reasoner",)), form), row.source))
    counts["reflective"] += 1
  return samples, counts


def _text(row: Row, fields: Sequence[str]) -> str:
  field = next((field for field in fields if row.columns.get(field) is not None), None)
  if field is None:
    columns = ", ".join(row.columns) or "none"
    raise InputError(f"{row.source}: found columns {columns}; expected {' or '.join(map(repr, fields))}")
  text = row.columns[field]
  if not isinstance(text, str) or not text.strip():
    raise InputError(f"{row.source}: {field} is {text!r}, expected text")
  return text


def _written(system: str | None, problem: str, answer: str, form: RowForm) -> dict[str, Any]:
  if form == RowForm.TEXT:
    return {"prompt": (system or "") + problem, "completion": answer}
  turns = [("system", system), ("user", problem), ("assistant", answer)]
  return {"messages": [{"role": role, "content": text} for role, text in turns if text is not None]}
