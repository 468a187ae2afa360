"""Reads rows of preference data: a prompt, its answers, and their ranks.

Nothing is tokenised here. Three forms of rows are read:
- {"prompt", "chosen", "rejected"}, optionally with "strength", or with "probability": how likely it is that the chosen
  one is the better one, from 0.5 on (a soft target of a reward model, as an AI judge gives it);
- the same with "edited", an answer that a person improved by hand: edited > chosen > rejected (Llama 3). The strength
  is that of chosen over rejected;
- {"prompt", "answers": [...], "ranks": [...]}: lower ranks are better, ties allowed (InstructGPT ranks 4 to 9 answers).

`data.labelled_rows` reads a fourth form, single answers with a label.

A prompt is text, or messages. If the last one is the assistant's, it is the beginning of all answers, which go on in
that turn. A row may have "tools" for the chat template. An answer is text, one assistant message in a list, or the
prompt's messages followed by one assistant message. The two forms with lists are TRL's "conversational" rows. If all
answers have the prompt's messages, the column "prompt" may be missing. A column whose value is null counts as missing.
"""

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data.chat_template import ROLES, Message, plain, tools_of
from posttrain_jax.types import InputError


class Strength(enum.StrEnum):
  """Lists how much better one answer is than another.

  These are the four choices of Llama 2's labellers.
  """

  SIGNIFICANTLY = "significantly"
  BETTER = "better"
  SLIGHTLY = "slightly"
  NEGLIGIBLY = "negligibly"  # "or unsure"; Llama 3's "marginally" is read as this


class BadRow(InputError):
  """Signals a row that cannot be used.

  Attributes:
    reason: one word for the kind of defect. Dropped rows are counted by it.
  """

  def __init__(self, reason: str, message: str):
    """Stores the reason and the message."""
    super().__init__(message)
    self.reason = reason


@dataclasses.dataclass(frozen=True)
class Judgement:
  """Holds what a row of preference data says.

  Attributes:
    prompt: text, or the messages before the answer.
    answers: K >= 2 assistant messages, or a single one with a label. If the row has chosen and rejected, the best comes
      first; otherwise the row's order is kept.
    ranks: rank of each answer, from 0 without gaps. A lower rank is better, equal ranks are a tie.
    strength: how much better chosen is than rejected; None if the row does not say.
    tools: JSON schemas of the row's tools; None if it has none.
    probability: that the chosen answer is the better one, in [0.5, 1]; None if the row does not say.
    desirable: whether the single answer is good; None if answers are compared.
  """

  prompt: str | tuple[Message, ...]
  answers: tuple[Message, ...]
  ranks: tuple[int, ...]
  strength: Strength | None
  tools: Sequence[Mapping[str, Any]] | None = None
  probability: float | None = None
  desirable: bool | None = None


def judgement(columns: Mapping[str, Any]) -> Judgement:
  """Reads a row of any form with several answers.

  Raises:
    BadRow: if a column is missing, superfluous or malformed, or if no answer is better than another.
  """
  columns = {name: value for name, value in columns.items() if value is not None}
  if "answers" in columns or "ranks" in columns:
    answers, ranks = _ranked(columns)
    names = [f"answers[{i}]" for i in range(len(answers))]
  else:
    names = [*(["edited"] if "edited" in columns else []), "chosen", "rejected"]
    missing = [repr(name) for name in names if name not in columns]
    if missing:
      found, nothing = ", ".join(columns) or "none", f"no {' and no '.join(missing)} among the columns"
      if {"completion", "label"} <= {*columns}:
        raise BadRow(
          "single_answer",
          f"{nothing} {found}; single answers with a label need preferences.form=single and objective.loss=kto",
        )
      raise BadRow("missing_column", f"{nothing} {found}")
    answers, ranks = [columns[name] for name in names], tuple(range(len(names)))
  prompt, said, tools = conversation(columns, dict(zip(names, answers)))
  return Judgement(prompt, said, ranks, _strength(columns), tools, _probability(columns))


def conversation(
  columns: Mapping[str, Any], named: Mapping[str, Any]
) -> tuple[str | tuple[Message, ...], tuple[Message, ...], Sequence[Mapping[str, Any]] | None]:
  """Reads the prompt, the answers and the tools of a row.

  Args:
    columns: of the row, without those that are null.
    named: the answers by their names in messages.

  Returns:
    (prompt, messages of the answers, JSON schemas of the tools), as `Judgement` has them.

  Raises:
    BadRow: if one of them is missing or malformed.
  """
  answers = list(named.values())
  prompt = _prompt(columns, answers)
  said = tuple(_said(answer, prompt, name) for name, answer in named.items())
  if isinstance(prompt, str) and not all(isinstance(answer, str) for answer in answers):
    prompt = ({"role": "user", "content": prompt},)
  try:
    tools = tools_of(columns)
  except InputError as error:
    raise BadRow("malformed_tools", str(error)) from None
  return prompt, said, tools


def opening(columns: Mapping[str, Any]) -> Any:
  """Returns the start of a row's conversation, up to the user's first message.

  Rows with equal starts belong to one prompt (`preferences.split_by_prompt`). A prompt given as text has the same start
  as a user's message with that text. A conversation has the same start as its continuations. A row of demonstrations is
  also read; it may have a "question" or a "problem".

  Returns:
    [role, content] of each message.
  """
  candidates = [columns.get(name) for name in ("prompt", "question", "messages", "problem", "chosen")] + [
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
      raise BadRow("bad_ranks", f"{other!r} next to 'answers' and 'ranks', expected one or the other")
  different = sorted(set(ranks))
  if len(different) == 1:
    raise BadRow("all_tied", f"all {len(ranks)} ranks are {ranks[0]}, expected one that is better than another")
  return answers, tuple(different.index(rank) for rank in ranks)


def _prompt(columns: Mapping[str, Any], answers: list[Any]) -> str | tuple[Message, ...]:
  """Returns the prompt; if it is missing, the messages that all answers start with."""
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
  try:
    prompt = plain(prompt)
  except InputError as error:
    raise BadRow("malformed_messages", f"{name}: {error}") from None
  last = prompt[-1]
  if last["role"] in ("system", "developer") or last.get("tool_calls"):
    found = "a call of a tool" if last.get("tool_calls") else f"a message of role {last['role']!r}"
    raise BadRow("malformed_messages", f"{name} ends with {found}, expected 'user' or another one to answer")
  if not last["content"].strip():
    raise BadRow("empty_prompt", f"{name} ends with {_shown(last['content'])}, expected text")
  return tuple(prompt)


def _said(answer: Any, prompt: str | tuple[Message, ...], name: str) -> Message:
  """Returns the assistant's message of an answer."""
  if isinstance(answer, str):
    return {"role": "assistant", "content": answer}
  if not isinstance(answer, list) or not answer:
    raise BadRow("malformed_messages", f"{name} is {_shown(answer)}, expected text or a list of messages")
  try:
    *before, last = plain(answer)
  except InputError as error:
    raise BadRow("malformed_messages", f"{name}: {error}") from None
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


def _probability(columns: Mapping[str, Any]) -> float | None:
  given = columns.get("probability")
  if given is None:
    return None
  if "answers" in columns or "edited" in columns:
    raise BadRow("bad_probability", "'probability' next to 'answers' or 'edited', expected it in rows of two answers")
  if not _is_number(given) or not 0.5 <= given <= 1:
    raise BadRow("bad_probability", f"probability is {_shown(given)}, expected a number from 0.5 to 1")
  return float(given)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f"{text[:40]}..."
