"""Reads rows of single answers that people called good or bad, such as thumbs.

A row is {"prompt", "completion", "label"}: TRL's unpaired preferences. The label is true of a good answer. Prompt and
completion have the forms of `data.preference_rows`; other columns are left alone.
"""

from collections.abc import Mapping
from typing import Any

from posttrain_jax.data.preference_rows import BadRow, Judgement, conversation

_COLUMNS = ("prompt", "completion", "label")


def labelled_answer(columns: Mapping[str, Any]) -> Judgement:
  """Reads a row of a single answer with its label.

  Raises:
    BadRow: if a column is missing or malformed.
  """
  columns = {name: value for name, value in columns.items() if value is not None}
  missing = [repr(name) for name in _COLUMNS if name not in columns]
  if missing:
    found = ", ".join(columns) or "none"
    raise BadRow("missing_column", f"no {' and no '.join(missing)} among the columns {found} (preferences.form=single)")
  label = columns["label"]
  if not isinstance(label, bool):
    raise BadRow("bad_label", f"label is {label!r:.40}, expected true or false")
  prompt, said, tools = conversation(columns, {"completion": columns["completion"]})
  return Judgement(prompt, said, (0,), None, tools, desirable=label)
