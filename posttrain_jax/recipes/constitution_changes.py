"""Tells what a changed constitution changes in an AI judge's preferences, by category of harm.

What the judge said under each principle stays; it is weighed anew with two priorities swapped, or without a principle.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax.data import sources
from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.data.constitution import Constitution, read_constitution
from posttrain_jax.evaluation.metrics import estimate
from posttrain_jax.recipes.measures import Measured
from posttrain_jax.recipes.model_pairs import write_pairs
from posttrain_jax.recipes.weighing import Weighed, weigh
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

CHANGES = "changes.json"
MEASURES = ("other_choice", "refusal", "veto")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangeSettings:
  """Holds the config of the changes.

  Attributes:
    seed: of the intervals.
    constitution: FILE.md.
    judged: judged.jsonl of an AI judge.
    swapped: names "ONE/OTHER" of two priorities that change places.
    removed: numbers of principles that are left out, one after another.
  """

  seed: int
  constitution: str
  judged: str
  swapped: tuple[str, ...]
  removed: tuple[int, ...]

  def changed(self) -> dict[str, Constitution]:
    """Reads the constitution and changes it; names the constitutions.

    Raises:
      InputError: if it cannot be read, or has no such priority or principle.
    """
    whole = read_constitution(self.constitution)
    found = {"unchanged": whole}
    for pair in self.swapped:
      if pair.count("/") != 1:
        raise InputError(f"swapped: {pair!r}, expected ONE/OTHER")
      found[f"swapped_{pair.replace('/', '_').replace(' ', '_')}"] = whole.swapped(*pair.split("/"))
    return found | {f"without_{number}": whole.without(number) for number in self.removed}


def changes(*, swapped: tuple[str, ...], removed: tuple[int, ...]) -> ConfigDict:
  """Returns the config; the constitution and the judgements are inputs."""
  return ConfigDict(dict(seed=0, constitution="", judged="", swapped=swapped, removed=removed))


def weigh_anew(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Weighs judgements under each changed constitution.

  Args:
    config: a record `ChangeSettings`.
    folder: gets changes.json, and report.html with a table and a picture.

  Returns:
    CONSTITUTION/GROUP/MEASURE to the share of the comparisons, a group being "trained", "other" or a category:
    "other_choice", in which it chooses the other answer; "refusal", among those in which one answer alone refuses, in
    which it chooses that; "veto", in which a hard constraint decides. With /low and /high at its end, the 95 %
    interval.

  Raises:
    InputError: if the constitution or the judgements cannot be read.
  """
  given = parse(ChangeSettings, config)
  rows = [row.columns for row in sources.read_rows(given.judged)[0]]
  try:
    asked = [(WorldRequest.from_row(row), row, {int(n): p for n, p in row["asked"].items()}) for row in rows]
  except (KeyError, ValueError) as error:
    raise InputError(f"judged: {given.judged} cannot be read ({error}), expected what an AI judge wrote") from None
  found = {}
  for name, constitution in given.changed().items():
    groups: dict[str, dict[str, list[float]]] = {}
    for request, row, probabilities in asked:
      weighed = weigh(probabilities, constitution.principles, len(constitution.priorities))
      for group in (critiques.half(request.harm), request.harm):
        for measure, value in _values(request, row, weighed).items():
          groups.setdefault(group, {}).setdefault(measure, []).append(value)
    found[name] = {
      f"{group}/{measure}": _measured(values, given.seed)
      for group, each in sorted(groups.items())
      for measure, values in each.items()
    }
  return write_pairs(folder, CHANGES, "changed constitutions", found)


def _values(request: WorldRequest, row: Mapping[str, str], weighed: Weighed) -> dict[str, float]:
  first = weighed.probability >= 0.5
  refuses = [judge(request, row[name]).refuses for name in ("chosen", "rejected")]
  found = {"other_choice": float(not first), "veto": float(weighed.vetoed)}
  return found | ({"refusal": float(refuses[0] == first)} if refuses[0] != refuses[1] else {})


def _measured(values: list[float], seed: int) -> Measured:
  found = estimate(np.array(values), seed=seed)
  return Measured(found.mean, found.low, found.high)
