"""What a row of preference data says, before anything is tokenised: a prompt, its answers, and how they were ranked.

Three forms of rows:
- {"prompt", "chosen", "rejected"}, and perhaps "strength";
- the same with "edited", an answer that a person improved by hand: edited > chosen > rejected (Llama 3). The strength
  is that of chosen over rejected;
- {"prompt", "answers": [...], "ranks": [...]}: lower ranks are better, ties allowed (InstructGPT ranks 4 to 9 answers).

A prompt is text, or messages that end with the user's. An answer is text, one assistant message in a list, or the
prompt's messages and one assistant message after them; where all answers are of the last kind, "prompt" may be left out
(both are TRL's "conversational" rows). A column that is null is a column left out.
"""

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any

from posttrain_jax.data.chat import ROLES, Message
from posttrain_jax.types import InputError


class Strength(enum.StrEnum):
  """By how much an answer is better than another: the four answers that Llama 2's labellers choose from."""

  SIGNIFICANTLY = "significantly"
  BETTER = "better"
  SLIGHTLY = "slightly"
  NEGLIGIBLY = "negligibly"  # "or unsure"; Llama 3's "marginally" is read as this


class BadRow(InputError):
  """A row that cannot be used.

  Attributes:
    reason: in one word, under which such rows are counted.
  """

  def __init__(self, reason: str, message: str):
    """Makes the error."""
    super().__init__(message)
    self.reason = reason


@dataclasses.dataclass(frozen=True)
class Judgement:
  """A row, read.

  Attributes:
    prompt: text, or the messages before the answer.
    answers: K >= 2 assistant messages: best first where the row says chosen and rejected, else in the row's order.
    ranks: rank of each answer from 0 on, without gaps; lower is better, equal is a tie.
    strength: by how much chosen is better than rejected; None: the row does not say.
  """

  prompt: str | tuple[Message, ...]
  answers: tuple[Message, ...]
  ranks: tuple[int, ...]
  strength: Strength | None


def judgement(columns: Mapping[str, Any]) -> Judgement:
  """Reads a row of any form.

  Raises:
    BadRow: a column is missing, superfluous or malformed, or no answer is better than another.
  """
  columns = {name: value for name, value in columns.items() if value is not None}
  if "answers" in columns or "ranks" in columns:
    answers, ranks = _ranked(columns)
    names = [f"answers[{i}]" for i in range(len(answers))]
  else:
    names = [*(["edited"] if "edited" in columns else []), "chosen", "rejected"]
    missing = [repr(name) for name in names if name not in columns]
    if missing:
      found = ", ".join(columns) or "none"
      raise BadRow("missing_column", f"no {' and no '.join(missing)} among the columns {found}")
    answers, ranks = [columns[name] for name in names], tuple(range(len(names)))
  prompt = _prompt(columns, answers)
  said = tuple(_said(answer, prompt, name) for answer, name in zip(answers, names))
  if isinstance(prompt, str) and not all(isinstance(answer, str) for answer in answers):
    prompt = ({"role": "user", "content": prompt},)
  return Judgement(prompt, said, ranks, _strength(columns))


def opening(columns: Mapping[str, Any]) -> Any:
  """How the conversation of a row starts: its text, or its messages up to the user's first.

  A text and a user's message of that text are the same; so is a conversation and its continuation. A row of
  demonstrations may have a "question".
  """
  candidates = [columns.get(name) for name in ("prompt", "question", "messages", "chosen")] + [
    columns.get("answers") or None
  ]
  prompt = next((value for value in candidates if value is not None), None)
  if prompt is columns.get("answers") and isinstance(prompt, list):
    prompt = prompt[0]
  if not isinstance(prompt, list):
    return [["user", prompt]]
  turns = [[turn.get("role"), turn.get("content")] if isinstance(turn, Mapping) else turn for turn in prompt]
  first = next((i for i, turn in enumerate(turns) if isinstance(turn, list) and turn[0] == "user"), len(turns))
  return turns[: first + 1]


def _ranked(columns: Mapping[str, Any]) -> tuple[list[Any], tuple[int, ...]]:
  answers, ranks = columns.get("answers"), columns.get("ranks")
  if not isinstance(answers, list) or len(answers) < 2:
    raise BadRow("missing_column", f"answers is {_shown(answers)}, expected a list of at least two")
  if not isinstance(ranks, list) or not all(_is_number(rank) for rank in ranks):
    raise BadRow("bad_ranks", f"ranks is {_shown(ranks)}, expected a list of numbers")
  if len(ranks) != len(answers):
    raise BadRow("bad_ranks", f"{len(ranks)} ranks of {len(answers)} answers, expected as many")
  for other in ("chosen", "rejected", "edited", "strength"):
    if other in columns:
      raise BadRow("bad_ranks", f"{other!r} beside 'answers' and 'ranks', expected one or the other")
  different = sorted(set(ranks))
  if len(different) == 1:
    raise BadRow("all_tied", f"all {len(ranks)} ranks are {ranks[0]}, expected one that is better than another")
  return answers, tuple(different.index(rank) for rank in ranks)


def _prompt(columns: Mapping[str, Any], answers: list[Any]) -> str | tuple[Message, ...]:
  """The prompt, where it is left out what all answers start with."""
  prompt, name = columns.get("prompt"), "prompt"
  if prompt is None:
    if not all(isinstance(answer, list) and len(answer) > 1 for answer in answers):
      raise BadRow("missing_column", f"no 'prompt' among the columns {', '.join(columns)}")
    prompt, name = answers[0][:-1], "the prompt within the answers"
    if any(answer[:-1] != prompt for answer in answers):
      raise BadRow("malformed_messages", "the answers differ before their last message, expected one prompt")
  if isinstance(prompt, str):
    if not prompt.strip():
      raise BadRow("empty_prompt", f"prompt is {_shown(prompt)}, expected text")
    return prompt
  if not isinstance(prompt, list):
    raise BadRow("malformed_messages", f"prompt is {_shown(prompt)}, expected text or a list of messages")
  if not prompt:
    raise BadRow("empty_prompt", f"{name} is [], expected messages")
  for i, message in enumerate(prompt):
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
      raise BadRow("malformed_messages", f"message {i} of {name} is {_shown(message)}, expected a role of {ROLES}")
  last = prompt[-1]
  if last["role"] != "user":
    raise BadRow("malformed_messages", f"{name} ends with a message of role {last['role']!r}, expected 'user'")
  if not isinstance(last.get("content"), str) or not last["content"].strip():
    raise BadRow("empty_prompt", f"{name} ends with {_shown(last.get('content'))}, expected text")
  return tuple(prompt)


def _said(answer: Any, prompt: str | tuple[Message, ...], name: str) -> Message:
  """The assistant's message of an answer."""
  if isinstance(answer, str):
    return {"role": "assistant", "content": answer}
  if not isinstance(answer, list) or not answer:
    raise BadRow("malformed_messages", f"{name} is {_shown(answer)}, expected text or a list of messages")
  *before, last = answer
  known = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
  if before and before != known:
    raise BadRow("malformed_messages", f"{name} has messages before its last that are not the prompt's")
  if not isinstance(last, Mapping) or last.get("role") != "assistant":
    raise BadRow("malformed_messages", f"{name} ends with {_shown(last)}, expected an assistant's message")
  if not isinstance(last.get("content"), str):
    raise BadRow("malformed_messages", f"{name} ends with content {_shown(last.get('content'))}, expected text")
  return last


def _strength(columns: Mapping[str, Any]) -> Strength | None:
  given = columns.get("strength")
  if given is None:
    return None
  if given == "marginally":
    return Strength.NEGLIGIBLY
  if not isinstance(given, str) or given not in list(Strength):
    raise BadRow("unknown_strength", f"strength is {_shown(given)}, expected one of {', '.join(Strength)}")
  return Strength(given)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f"{text[:40]}..."
