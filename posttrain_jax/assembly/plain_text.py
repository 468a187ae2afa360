"""Reads plain text that a model must not forget, from a file or the procedural crowd."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from posttrain_jax.data import arithmetic, demonstrations, prompts, supervised
from posttrain_jax.data.encoding import Example, encode_demonstrations
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainTextSettings:
  """Holds a config's group of fields about plain text.

  Attributes:
    path: FILE.jsonl or FILE.jsonl.gz; empty for what the procedural crowd writes.
    field: the column that has the text.
    per_difficulty: procedural problems of each number of steps.
    seed: of the procedural problems.
    limit: at most this many texts; 0 for all.
    row_length: texts are cut at this many tokens.
  """

  path: str
  field: str
  per_difficulty: int
  seed: int
  limit: int = at_least(0)
  row_length: int = at_least(1)


def read_plain(section: PlainTextSettings) -> tuple[list[Row], str]:
  """Reads rows of text in the column `section.field`, with the sha256 of what was read.

  Args:
    section: `path`, `field` and `limit`; without a path, what the procedural crowd writes about `per_difficulty`
      held-out problems of every difficulty.

  Raises:
    InputError: if nothing is there, or if a row has no such text.
  """
  if not section.path:
    problems = arithmetic.problems(arithmetic.Split.HELD_OUT, per_difficulty=section.per_difficulty, seed=section.seed)
    written = demonstrations.demonstrations(problems, seed=section.seed)
    return prompts.named_rows(written, "plain")[: section.limit or None], prompts.rows_digest(written)
  return read_texts(section.path, field=section.field, limit=section.limit)


def read_texts(path: str, *, field: str, limit: int = 0) -> tuple[list[Row], str]:
  """Reads the rows of a file that have text in a column, with the file's sha256.

  Raises:
    InputError: if there is no such file, or a row without text in that column.
  """
  rows = prompts.read_jsonl(path)[: limit or None]
  for row in rows:
    if not isinstance(row.columns.get(field), str) or not row.columns[field].strip():
      raise InputError(f"{row.source}: {field} is {row.columns.get(field)!r}, expected text")
  return rows, prompts.file_digest(path)


def lay_out_plain(
  section: PlainTextSettings, rows: Sequence[Row], tokenizer: Tokenizer, *, batch_size: int
) -> SupervisedBatches:
  """Lays out rows of `read_plain` for `Validation`.

  Every token of a file's text counts; of the crowd's text only the answers count.

  A problem's digits are drawn at random; there is nothing to predict about them. Texts are cut at `row_length` tokens.
  """
  if section.path:
    examples = documents(rows, tokenizer, field=section.field, row_length=section.row_length)
  else:
    examples = encode_demonstrations(rows, tokenizer, chat=False)
    examples, _ = supervised.limit_length(
      examples, max_length=section.row_length, too_long=supervised.TooLongExample.CUT
    )
  return SupervisedBatches(
    examples, batch_size=batch_size, seed=0, pad_id=tokenizer.pad_id or 0, length=section.row_length, packed=True
  )


def documents(rows: Sequence[Row], tokenizer: Tokenizer, *, field: str, row_length: int) -> list[Example]:
  """Tokenises texts in the column `field`, cut at `row_length` tokens; every token is learned."""
  tokens = [tokenizer.encode(row.columns[field], add_special_tokens=True) for row in rows]
  examples = [
    Example(np.array(each, np.int32), np.ones(len(each), bool), row.source) for each, row in zip(tokens, rows)
  ]
  return supervised.limit_length(examples, max_length=row_length, too_long=supervised.TooLongExample.CUT)[0]
