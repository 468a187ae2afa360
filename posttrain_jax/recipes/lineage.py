"""Finds what a stage's result was made of: all stages that it depends on, with digests."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.recipes import digests, records
from posttrain_jax.recipes.effort import Effort, from_json
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Ancestor:
  """Describes a stage that a result depends on.

  Attributes:
    name: of the stage.
    kind: its kind.
    needs: what it was made of: names of stages, and the first digits of the sha256 of what is from outside the recipe.
    sha256: what it wrote, by name, to the first digits of its sha256.
    effort: its counted work.
  """

  name: str
  kind: str
  needs: tuple[str, ...]
  sha256: Mapping[str, str]
  effort: Effort


_DIGITS = 12  # of a sha256


def lineage(directory: pathlib.Path, stage: str) -> list[Ancestor]:
  """Returns a stage and all that it depends on, the first stage first.

  Args:
    directory: a recipe's.
    stage: name of a finished stage.

  Raises:
    InputError: if the stage, or one that it depends on, has not finished here.
  """
  kept: dict[str, records.StageRecord] = {}
  for name in records.stages(directory):
    record = records.read(directory, name)
    if record is not None and record.finished:
      kept[name] = record
  by_digest = {digests.digest(record.content): name for name, record in kept.items()}
  found: dict[str, Ancestor] = {}

  def visit(name: str) -> None:
    if name in found:
      return
    if name not in kept:
      raise InputError(f"{directory}: stage {name} has not finished here, expected a finished stage of this recipe")
    needs = tuple(_name(value, by_digest) for value in _inputs(kept[name].content).values())
    for need in needs:
      if need in kept:
        visit(need)
    found[name] = _ancestor(name, kept[name], tuple(dict.fromkeys(needs)))

  visit(stage)
  return list(found.values())


def _inputs(content: Mapping[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in content.items() if name.startswith("inputs.")}


def _name(value: Any, by_digest: Mapping[str, str]) -> str:
  """Returns the stage that an input comes from, or digits of its digest."""
  if isinstance(value, list):  # [digest of the stage's content, file]
    return by_digest.get(value[0], f"sha256 {value[0][:_DIGITS]}")
  return f"sha256 {value[:_DIGITS]}"


def _ancestor(name: str, record: records.StageRecord, needs: tuple[str, ...]) -> Ancestor:
  sha256 = {file: digest[:_DIGITS] for file, digest in record.outputs.items()}
  return Ancestor(name, record.content["kind"], needs, sha256, from_json(record.effort))
