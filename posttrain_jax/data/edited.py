"""Makes demonstrations and pairs from answers that people edited by hand.

The order is edited > chosen > rejected, as annotated for Llama 3 (arXiv:2407.21783, section 4.2.1). One such row has
two uses: its edited answer is a demonstration, and its three answers are three pairs. A reward model can also read the
unchanged row as one comparison of three answers (`preferences.read_comparisons`).
"""

from collections.abc import Sequence

from posttrain_jax.data.preference_rows import BadRow, Judgement, judgement
from posttrain_jax.data.prompts import Row
from posttrain_jax.types import InputError

_READ = {"prompt", "edited", "chosen", "rejected", "strength"}


def targets(rows: Sequence[Row]) -> list[Row]:
  """Makes demonstrations of the edited answers.

  Args:
    rows: with "prompt", "edited", "chosen" and "rejected" (`data.preference_rows`).

  Returns:
    Rows {"prompt", "completion"} if the prompt is text, {"messages"} if it is messages. Each keeps the other
    columns and the source of its row.

  Raises:
    InputError: if a row lacks one of these columns, or two of its answers are equal.
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
  """Makes three pairs of each row.

  The pairs are edited over chosen, edited over rejected, and chosen over rejected.

  Args:
    rows: as for `targets`.

  Returns:
    Rows {"prompt", "chosen", "rejected"} with the other columns and the source of the row that they come from. If the
    row has a strength, only the pair of chosen over rejected gets it.

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
  """Reads a row and checks that it has three different answers."""
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
