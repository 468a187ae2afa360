"""Knows what earlier stages will make, so that later ones can be estimated before anything runs."""

import pathlib
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from posttrain_jax.assembly.model import ModelSettings, find_tokenizer, load_policy, read_config
from posttrain_jax.data import sources
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.sizes import SIZES, sizes
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

_GUESS = 1000  # rows of a file from which nothing is known before it is written


class Expected(NamedTuple):
  """Holds what is known of a model before it exists.

  Attributes:
    model: its sizes.
    tokenizer: its tokeniser; None if only the sizes are known.
  """

  model: TransformerConfig
  tokenizer: Tokenizer | None


class Forecast:
  """Answers how many rows a file has and how large a model is.

  Both may be what an earlier stage will make.

  Attributes:
    fill: expected length of answers and rows, as a share of their limit.
  """

  def __init__(self, fill: float, unfinished: Collection[pathlib.Path] = ()):
    """Makes a forecast that expects nothing yet.

    Args:
      fill: expected length of answers and rows, as a share of their limit.
      unfinished: folders of stages that are going to run. What is in them now comes from an earlier start, so it does
        not count.
    """
    self.fill = fill
    self._unfinished = frozenset(unfinished)
    self._rows: dict[str, int] = {}
    self._models: dict[str, Expected] = {}

  def expect_rows(self, path: pathlib.Path, count: int) -> None:
    """Notes how many rows a file will have."""
    self._rows[str(path)] = count

  def expect_model(self, path: pathlib.Path, model: Expected) -> None:
    """Notes the model that a folder will have."""
    self._models[str(path)] = model

  def read(self, path: str) -> list[Row] | None:
    """Returns a file's rows, or those of several files with commas between them.

    None if one does not exist yet, or if the stage that writes it is going to run.
    """
    there = all(sources.is_tfds(each) or self._is_written(each) for each in sources.paths_in(path))
    return sources.read_rows(path)[0] if there else None

  def _is_written(self, path: str) -> bool:
    """Tells whether a file exists and stays as it is."""
    file = pathlib.Path(path)
    return file.is_file() and not self._unfinished & {*file.parents}

  def count(self, path: str) -> int:
    """Returns the number of a file's rows: counted if `read` finds them, else expected."""
    if self._is_written(path) and not pathlib.Path(path).stat().st_size:
      return 0  # such as the pairs of a collection without any: what needs rows refuses it
    rows = self.read(path)
    return self._rows.get(path, _GUESS) if rows is None else len(rows)

  def model(self, section: Mapping[str, Any]) -> Expected:
    """Returns what is known of the model that a config's `model` section names.

    A public model's name, such as "Qwen2.5-32B", needs no files.

    Raises:
      InputError: if there is no such model.
    """
    path = section["path"]
    if path in self._models:
      return self._models[path]
    if not path:
      policy = load_policy(parse(ModelSettings, section, "model"))
      return Expected(policy.model, policy.tokenizer)
    named = named_sizes(path)
    return Expected(named, None) if named else Expected(read_config(path), find_tokenizer(path))

  def policy(self, section: Mapping[str, Any]) -> Expected:
    """Returns what `model` does, for a stage that needs a language model.

    Raises:
      InputError: if there is no such model, or if it is a reward model.
    """
    found = self.model(section)
    if found.model.scalar_head:
      raise InputError(f"model.path: {section['path']} is a reward model, expected a language model")
    return found

  def length(self, limit: int) -> int:
    """Returns the expected tokens of what has at most `limit` of them, at least 1."""
    return max(1, round(self.fill * limit))


def named_sizes(path: str) -> TransformerConfig | None:
  """Returns the sizes of a public model by its name; None for another path."""
  if pathlib.Path(path).exists():
    return None
  known = re.sub(r"\W", "_", path.lower())
  found = [name for name in SIZES if known.startswith(name)]
  return sizes(max(found, key=len)) if found else None
