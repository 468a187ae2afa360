"""Reads the rows of files, and of TensorFlow Datasets (TFDS) without TensorFlow.

A data set has to be prepared in the array_record format, which allows random access. (TFDS's parquet format loses rows
silently, and its tfrecord format needs TensorFlow.)
"""

import hashlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from posttrain_jax.data import prompts
from posttrain_jax.data.prompts import Row
from posttrain_jax.types import InputError

_NAME = re.compile(r"tfds:(?P<name>[^/]+(?:/[^/]+)*)/(?P<split>[^/]+)")


def is_tfds(name: str | pathlib.Path) -> bool:
  """Tells whether a name means a TFDS data set and not a file."""
  return str(name).startswith("tfds:")


def read_rows(path: str) -> tuple[list[Row], str]:
  """Reads all rows of FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT, with the sha256 of what was read.

  Args:
    path: one of them, or several with commas between them. They are read one after the other.

  Raises:
    InputError: if there is no such file or data set, or if it cannot be read.
  """
  parts = paths_in(path)
  if len(parts) > 1:
    read = [read_rows(part) for part in parts]
    digest = hashlib.sha256("".join(each for _, each in read).encode()).hexdigest()
    return [row for rows, _ in read for row in rows], digest
  if is_tfds(path):
    rows = read_tfds(path)
    return rows, prompts.rows_digest([row.columns for row in rows])
  return prompts.read_jsonl(path), prompts.file_digest(path)


def paths_in(path: str) -> list[str]:
  """Lists the files and data sets that a path names.

  The path of a file that is there may have commas itself.
  """
  return [path] if "," not in path or pathlib.Path(path).is_file() else path.split(",")


def read_tfds(name: str, *, data_dir: str | pathlib.Path | None = None) -> list[Row]:
  """Reads all rows of one split.

  Args:
    name: "tfds:NAME/SPLIT". NAME may have a config and a version ("tfds:glue/cola:1.0.0/train"), SPLIT may have a slice
      ("train[:100]").
    data_dir: directory of prepared data sets; None: TFDS's default. Nothing is downloaded or written there.

  Returns:
    Rows of plain Python values: text instead of bytes, numbers and lists instead of arrays.

  Raises:
    InputError: if the name is malformed, if the data set or the split does not exist, if the data set is not prepared
      as array_record, or if the split has no rows.
  """
  match = _NAME.fullmatch(name)
  if match is None:
    raise InputError(f"{name}: expected 'tfds:NAME/SPLIT', such as 'tfds:gsm8k/train'")
  data_dir = None if data_dir is None else str(data_dir)
  try:
    builder = tfds.builder(match["name"], data_dir=data_dir, try_gcs=False)
  except tfds.core.DatasetNotFoundError:
    raise InputError(
      f"{name}: TFDS knows no data set {match['name']!r} in {data_dir or 'its default directory'}"
    ) from None
  prepared = builder.info.file_format.value if builder.info.splits and builder.info.file_format else "nothing"
  if prepared != "array_record":
    raise InputError(
      f"{name}: found {prepared} in {builder.data_path}, expected the data set prepared with "
      "download_and_prepare(file_format='array_record')"
    )
  try:
    source = builder.as_data_source(split=match["split"])
  except (ValueError, KeyError) as error:
    splits = ", ".join(builder.info.splits)
    raise InputError(f"{name}: split {match['split']!r}: {str(error).splitlines()[0]}; there are {splits}") from None
  rows = [Row(_plain(source[i]), f"{name}, row {i}") for i in range(len(source))]
  if not rows:
    raise InputError(f"{name}: no rows")
  return rows


def _plain(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _plain(item) for key, item in value.items()}
  if isinstance(value, np.ndarray | np.generic):
    return _plain(value.tolist())
  if isinstance(value, bytes):
    return value.decode("utf-8")
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  return value
