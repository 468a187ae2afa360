"""Decides which stages run: new, changed and unfinished ones, and all that depend on them."""

import dataclasses
import enum
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.recipes import digests, records
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.records import StageRecord


class State(enum.StrEnum):
  """Names what is to be done with a stage."""

  FINISHED = "finished"
  GOES_ON = "goes on"  # it was started with the same config and inputs
  RUNS = "runs"
  RUNS_AGAIN = "runs again"  # what it made before is put aside


@dataclasses.dataclass(frozen=True)
class Planned:
  """Describes what is to be done with a stage.

  Attributes:
    stage: the stage.
    state: what is to be done.
    why: why a stage runs again; empty for the others.
    content: what its result depends on.
    record: what is kept of an earlier start that counts; None if there is none.
  """

  stage: Stage
  state: State
  why: str
  content: Mapping[str, Any]
  record: StageRecord | None

  @property
  def line(self) -> str:
    """Returns the plan of the stage as one line."""
    return f"{self.stage.name}: {self.state}" + (f", {self.why}" if self.why else "")


def plan(stages: Sequence[Stage], directory: pathlib.Path, contents: Mapping[str, Mapping[str, Any]]) -> list[Planned]:
  """Compares the stages with what is kept in a directory.

  Args:
    stages: of the recipe, in order.
    directory: the recipe's.
    contents: what each stage's result depends on (`digests.contents`).

  Raises:
    InputError: if something that a finished stage wrote is missing or changed, or if a record is broken.
  """
  found: dict[str, Planned] = {}
  for stage in stages:
    content = contents[stage.name]
    record = records.read(directory, stage.name)
    before = [name for name in stage.needs() if found[name].state != State.FINISHED]
    if record is None:
      foreign = (directory / stage.name).exists()
      state, why = (State.RUNS_AGAIN, "its record is gone") if foreign else (State.RUNS, "")
    elif why := digests.difference(record.content, content):
      state = State.RUNS_AGAIN
    elif before:
      state, why = State.RUNS_AGAIN, f"it depends on {before[0]}"
    else:
      state, why = (State.FINISHED if record.finished else State.GOES_ON), ""
    kept = record if state in (State.FINISHED, State.GOES_ON) else None
    found[stage.name] = Planned(stage, state, why, content, kept)
  _check_finished(found, directory)
  return list(found.values())


def _check_finished(planned: Mapping[str, Planned], directory: pathlib.Path) -> None:
  """Checks the files of finished stages, and all of a model that another stage will load."""
  loaded = {name for each in planned.values() if each.state != State.FINISHED for name in each.stage.needs()}
  for name, each in planned.items():
    if each.state == State.FINISHED:
      records.check_outputs(directory, each.stage, each.record, whole_model=name in loaded)


def make_room(planned: Sequence[Planned], directory: pathlib.Path) -> list[str]:
  """Puts aside what stages made that run again, the last stage first.

  So no stage that depends on another one is taken for finished after a kill, when that one has run again.

  Returns:
    A line for each folder that was moved.
  """
  moved = []
  for each in reversed(planned):
    if each.state == State.RUNS_AGAIN:
      aside = records.put_aside(directory, each.stage.name)
      moved += [f"{each.stage.name}: what it made before is now {aside}"] if aside else []
  return moved[::-1]


def unknown_stages(stages: Sequence[Stage], directory: pathlib.Path) -> list[str]:
  """Returns the names of stages with a record that are not in the recipe any more."""
  names = {stage.name for stage in stages}
  kept = sorted(records.stages(directory))
  return [name for name in kept if name not in names]
