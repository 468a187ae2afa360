"""Answers that people improved by hand: edited > chosen > rejected, as annotated for Llama 3 (arXiv:2407.21783, 4.2.1).

One such row teaches twice: its edited answer is a demonstration, and its three answers are three pairs. A reward model
can also take the row as it is, as one comparison of three answers (`preferences.read_comparisons`).
"""

from collections.abc import Sequence

from posttrain_jax.data.preference_rows import BadRow, Judgement, judgement
from posttrain_jax.data.prompts import Row
from posttrain_jax.types import InputError

_READ = {"prompt", "edited", "chosen", "rejected", "strength"}


def targets(rows: Sequence[Row]) -> list[Row]:
  """Demonstrations of the edited answers, with the rows' other columns.

  Args:
    rows: with "prompt", "edited", "chosen" and "rejected" (`data.preference_rows`).

  Returns:
    Rows {"prompt", "completion"} where the prompt is text, {"messages"} where it is messages; sources as they were.

  Raises:
    InputError: a row has not all of these, or two of its answers are equal.
  """
  found = []
  for row in rows:
    said = _edited(row)
    if isinstance(said.prompt, str):
      columns = {"prompt": said.prompt, "completion": said.answers[0]["content"]}
    else:
      columns = {"messages": [*said.prompt, said.answers[0]]}
    found.append(Row(_others(row) | columns, row.source))
  return found


def ranked_pairs(rows: Sequence[Row]) -> list[Row]:
  """Three pairs of each row: edited over chosen, edited over rejected, chosen over rejected.

  Args:
    rows: as for `targets`.

  Returns:
    Rows {"prompt", "chosen", "rejected"} with the other columns of the row they come from, and its source; the
    strength, if the row has one, is of chosen over rejected alone.

  Raises:
    InputError: as `targets`.
  """
  found = []
  for row in rows:
    said = _edited(row)
    is_text = isinstance(said.prompt, str)
    prompt = said.prompt if is_text else list(said.prompt)
    edited, chosen, rejected = (answer["content"] if is_text else [answer] for answer in said.answers)
    strength = {} if said.strength is None else {"strength": str(said.strength)}
    for better, worse, more in ((edited, chosen, {}), (edited, rejected, {}), (chosen, rejected, strength)):
      pair = {"prompt": prompt, "chosen": better, "rejected": worse}
      found.append(Row(_others(row) | pair | more, row.source))
  return found


def _edited(row: Row) -> Judgement:
  """Reads a row and makes sure that three different answers are in it."""
  if row.columns.get("edited") is None:
    raise InputError(f"{row.source}: no 'edited' among the columns {', '.join(row.columns) or 'none'}")
  try:
    said = judgement(row.columns)
  except BadRow as error:
    raise InputError(f"{row.source}: {error}") from None
  names, texts = ("edited", "chosen", "rejected"), [answer["content"] for answer in said.answers]
  for i, j in ((0, 1), (0, 2), (1, 2)):
    if texts[i] == texts[j]:
      raise InputError(f"{row.source}: {names[i]} equals {names[j]}, expected three different answers")
  return said


def _others(row: Row) -> dict:
  return {name: value for name, value in row.columns.items() if name not in _READ}
