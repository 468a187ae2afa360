"""Demonstrations from a stronger reasoner's answers: two samples of each problem (DeepSeek-V3, arXiv:2412.19437, §5.1).

<problem, original answer> keeps the original's form; <system prompt, problem, reasoner's answer> teaches to reflect and
verify, under a system prompt that asks for it. What is learned under that prompt shows without it, too, after RL.
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


class Form(enum.StrEnum):
  """How demonstrations are written."""

  MESSAGES = "messages"  # for models with a chat template
  TEXT = "text"  # "prompt" and "completion"; the system prompt stands before the problem


def distillation_samples(
  rows: Iterable[Row], *, system: str = REFLECTION_PROMPT, form: Form = Form.MESSAGES
) -> tuple[list[Row], dict[str, int]]:
  """Makes both samples of each problem.

  Args:
    rows: "prompt" or "question", the original "answer", and "reasoner": the reasoner's answer, None or absent where it
      was rejected. All are text.
    system: asks for reflection and verification; goes with the reasoner's answers only.
    form: how they are written.

  Returns:
    (rows of "messages", or of "prompt" and "completion", with the problem's source; counts: "plain", "reflective",
    "rejected"). A problem whose reasoner's answer was rejected gives the plain sample only.

  Raises:
    InputError: a row has no problem or answer, or one that is no text; with its source.
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


def _written(system: str | None, problem: str, answer: str, form: Form) -> dict[str, Any]:
  if form == Form.TEXT:
    return {"prompt": (system or "") + problem, "completion": answer}
  turns = [("system", system), ("user", problem), ("assistant", answer)]
  return {"messages": [{"role": role, "content": text} for role, text in turns if text is not None]}
