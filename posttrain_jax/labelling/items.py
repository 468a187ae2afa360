"""Reads what raters see: a prompt, and answers to compare, rank or check.

Rows have the forms that training reads, so that its files can be labelled, and labels of a file can be trained on:
- pairs: {"prompt", "chosen", "rejected"} as `experiments.collect` and the recipes write them, whose order is not
  believed, or {"prompt", "answers"} with two answers as `experiments.generate` writes them;
- ranking: {"prompt", "answers"} with K answers;
- demonstrations: prompts (`data.prompts.PROMPT_FIELDS`);
- accept: demonstrations, {"prompt", "completion"}, {"question", "answer"} or {"messages"}.

"models" may name the models of "answers", and "chosen_from" and "rejected_from" those of a pair. Raters never see them.
"""

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posttrain_jax.data.chat_template import Message, plain
from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.prompts import PROMPT_FIELDS, Row
from posttrain_jax.types import InputError

MOST_CHARACTERS = 4_000_000  # of a row's texts; a browser shows no more in reasonable time
_MOST_ANSWERS = 26  # answers are called A to Z


class RatingKind(enum.StrEnum):
  """Lists what raters do."""

  PAIRS = "pairs"  # say which of two answers is better, and by how much
  RANKING = "ranking"  # put K answers into an order
  DEMONSTRATIONS = "demonstrations"  # write an answer
  ACCEPT = "accept"  # accept or reject an answer


@dataclasses.dataclass(frozen=True)
class Item:
  """Holds what a rater sees, and what it was made of.

  Attributes:
    name: 16 hexadecimal digits, which say nothing about the row.
    columns: the row. Of equal answers only the first is left in it, and none that is empty.
    prompt: (role, text) of each message; a prompt that is text is one message of the role "user".
    answers: the answers' texts; empty for demonstrations.
    raw_answers: the answers in the row's form: text, or a list of messages.
    models: name of each answer's model, or None.
    known: the right label, if this is a check; see `labels`.
  """

  name: str
  columns: Mapping[str, Any]
  prompt: tuple[tuple[str, str], ...]
  answers: tuple[str, ...]
  raw_answers: tuple[Any, ...]
  models: tuple[str | None, ...]
  known: Mapping[str, Any] | None = None

  def with_text(self, answer: int, text: str) -> Any:
    """Returns a new text in the form of an answer: text, or a list of messages."""
    raw = self.raw_answers[answer]
    return text if isinstance(raw, str) else [*raw[:-1], {**raw[-1], "content": text}]


def read_items(rows: Sequence[Row], kind: RatingKind, *, are_checks: bool = False) -> tuple[list[Item], int]:
  """Makes an item of each row.

  Args:
    rows: in the forms above.
    kind: what raters do.
    are_checks: whether the right label is known: "chosen" is better than "rejected", "ranks" is the order, or "accept"
      is true or false.

  Returns:
    (items in the order of the rows, number of rows that were left out, because no two answers differ and have words, or
    because the answer to accept has none: training reads no such rows).

  Raises:
    InputError: if a row has another form, is too long, or is no check; if checks are asked for that cannot exist; or if
      no item is left. The message names the row.
  """
  if are_checks and kind == RatingKind.DEMONSTRATIONS:
    raise InputError(f"--checks: no answer to check is known for --kind={kind}, expected another kind")
  items = []
  for index, row in enumerate(rows):
    try:
      found = _READERS[kind](row.columns)
      if found is not None:
        known = _known(kind, row.columns) if are_checks else None
        items.append(_item(f"{kind} {are_checks} {index}", *found, known))
    except InputError as error:
      raise InputError(f"{row.source}: {error}") from None
  if not items:
    where = rows[0].source.rsplit(":", 1)[0] if rows else "items"
    raise InputError(f"{where}: no item is left of {len(rows)} rows, expected answers that differ and have words")
  return items, len(rows) - len(items)


def _item(
  where: str,
  columns: Mapping[str, Any],
  prompt: str | Sequence[Message],
  raw: Sequence[Any],
  texts: Sequence[str],
  models: Sequence[str | None],
  known: Mapping[str, Any] | None,
) -> Item:
  shown = (("user", prompt),) if isinstance(prompt, str) else tuple(_turn(message) for message in prompt)
  size = sum(len(text) for _, text in shown) + sum(map(len, texts))
  if size > MOST_CHARACTERS:
    raise InputError(f"{size} characters, expected at most {MOST_CHARACTERS}")
  digest = hashlib.sha256(json.dumps([where, shown, list(texts)]).encode()).hexdigest()[:16]
  return Item(digest, columns, shown, tuple(texts), tuple(raw), tuple(models), known)


def _turn(message: Message) -> tuple[str, str]:
  calls = message.get("tool_calls")
  text = message.get("content") or ""
  return message["role"], f"{text}\n{json.dumps(calls, ensure_ascii=False)}".strip() if calls else text


def _compared(columns: Mapping[str, Any]) -> tuple | None:
  """Reads a row of answers to compare."""
  columns = dict(columns)
  if columns.get("answers") is not None:
    raw, models = columns["answers"], columns.get("models")
  else:
    raw = [columns.get(name) for name in ("chosen", "rejected")]
    if None in raw:
      found = ", ".join(columns) or "none"
      raise InputError(f"found the columns {found}, expected 'prompt' with 'chosen' and 'rejected', or 'answers'")
    models = [columns.get("chosen_from"), columns.get("rejected_from")]
  if not isinstance(raw, list):
    raise InputError(f"answers is {raw!r:.40}, expected a list")
  models = [None] * len(raw) if models is None else models
  if not isinstance(models, list) or len(models) != len(raw) or not all(isinstance(m, str | None) for m in models):
    raise InputError(f"models is {models!r:.60}, expected the name of a model for each of {len(raw)} answers")
  # Ranks only so that the reader of preferences checks all the rest.
  read = {name: columns.get(name) for name in ("prompt", "tools")} | {"answers": raw, "ranks": [*range(len(raw))]}
  said = judgement(read)
  texts = [answer["content"] for answer in said.answers]
  shown = [text.strip() for text in texts]
  first = [i for i, text in enumerate(shown) if text and shown.index(text) == i]
  if len(first) < 2:
    return None
  if len(first) < len(texts) and columns.get("ranks") is not None:
    raise InputError("two answers are equal or one is empty, expected a check with different answers")
  kept = [[each[i] for i in first] for each in (raw, texts, models)]
  if "answers" in columns:
    columns |= {"answers": kept[0]} | ({"models": kept[2]} if columns.get("models") is not None else {})
  return columns, said.prompt, *kept


def _pair(columns: Mapping[str, Any]) -> tuple | None:
  found = _compared(columns)
  if found is not None and len(found[2]) != 2:
    raise InputError(f"{len(found[2])} answers, expected two for --kind=pairs; --kind=ranking takes more")
  return found


def _ranked(columns: Mapping[str, Any]) -> tuple | None:
  found = _compared(columns)
  if found is not None and len(found[2]) > _MOST_ANSWERS:
    raise InputError(f"{len(found[2])} answers, expected at most {_MOST_ANSWERS} to rank")
  return found


def _prompt_only(columns: Mapping[str, Any]) -> tuple:
  field = next((field for field in PROMPT_FIELDS if columns.get(field) is not None), None)
  if field is None:
    raise InputError(f"found the columns {', '.join(columns) or 'none'}, expected {' or '.join(PROMPT_FIELDS)}")
  return columns, _prompt(columns[field], field), (), (), ()


def _written(columns: Mapping[str, Any]) -> tuple | None:
  """Reads a demonstration to accept or to reject."""
  if columns.get("messages") is not None:
    messages = _prompt(columns["messages"], "messages")
    if isinstance(messages, str) or len(messages) < 2 or messages[-1]["role"] != "assistant":
      raise InputError("messages do not end with an assistant's after another one, expected an answer to check")
    text = messages[-1].get("content") or ""
    return (columns, messages[:-1], [list(messages)], [text], [None]) if text.strip() else None
  for asked, said in (("prompt", "completion"), ("question", "answer")):
    if columns.get(asked) is not None and columns.get(said) is not None:
      if not isinstance(columns[said], str):
        raise InputError(f"{said} is {columns[said]!r:.40}, expected text")
      text, question = columns[said], _prompt(columns[asked], asked)
      return (columns, question, [text], [text], [None]) if text.strip() else None
  found = ", ".join(columns) or "none"
  raise InputError(f"found the columns {found}, expected 'prompt' and 'completion', or 'messages'")


def _prompt(value: Any, field: str) -> str | list[Message]:
  if isinstance(value, str) and value.strip():
    return value
  if isinstance(value, list) and value:
    return plain(value)
  raise InputError(f"{field} is {value!r:.40}, expected text or a list of messages, not empty")


def _known(kind: RatingKind, columns: Mapping[str, Any]) -> Mapping[str, Any]:
  """Returns the right label of a check."""
  if kind == RatingKind.ACCEPT:
    if not isinstance(columns.get("accept"), bool):
      raise InputError(f"accept is {columns.get('accept')!r:.40}, expected true or false in a check")
    return {"accepted": columns["accept"]}
  if kind == RatingKind.RANKING:
    return {"ranks": list(judgement({**columns, "models": None}).ranks)}
  if columns.get("answers") is not None:
    raise InputError("found 'answers', expected 'chosen' and 'rejected' in a check")
  return {"better": 0}


_READERS: Mapping[RatingKind, Callable[[Mapping[str, Any]], tuple | None]] = {
  RatingKind.PAIRS: _pair,
  RatingKind.RANKING: _ranked,
  RatingKind.DEMONSTRATIONS: _prompt_only,
  RatingKind.ACCEPT: _written,
}
