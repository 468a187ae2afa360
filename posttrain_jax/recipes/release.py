"""Decides whether a model is released, and writes its model card.

The card has every measure with its interval, the bounds, what the model was made of, and known failures with samples.
It is written whether the model is released or not.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.recipes import failures, lineage
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.gate import GateClosed
from posttrain_jax.recipes.measures import Measured, read_measured
from posttrain_jax.reports.markdown import markdown_table
from posttrain_jax.runs.settings import parse
from posttrain_jax.runs.start_line import short_count
from posttrain_jax.types import InputError

CARD, VERDICT = "model_card.md", "release.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadMeasurement:
  """Describes a measurement of the model.

  Attributes:
    metrics: its metrics.jsonl, or the JSON file of attacks, probes or a judge.
    answers: its answers.jsonl or attacks.jsonl, from which failures are shown; empty for none.
  """

  metrics: str
  answers: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleaseBounds:
  """Holds what a model must keep.

  Attributes:
    at_least: measure to the least that it may be.
    at_most: measure to the most that it may be.
  """

  at_least: Mapping[str, float]
  at_most: Mapping[str, float]

  def __post_init__(self):
    """Raises InputError if there is no bound, or if one is no number."""
    if not (self.at_least or self.at_most):
      raise InputError("bounds: found none, expected some in at_least or at_most")
    for group in ("at_least", "at_most"):
      for name, bound in getattr(self, group).items():
        if not math.isfinite(bound):
          raise InputError(f"bounds.{group}.{name}: {bound}, expected a number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleaseSettings:
  """Holds the config of a release.

  Attributes:
    stage: the name by which a closed gate is accepted.
    title: of the card.
    use: what the model is for, a sentence or two.
    model: the model; its path is the folder of the stage that made it.
    measurements: by name, all that is known of it.
    bounds: what it must keep.
  """

  stage: str
  title: str
  use: str
  model: AskedModel
  measurements: Mapping[str, ReadMeasurement]
  bounds: ReleaseBounds


def release(
  *names: str, title: str, use: str, at_least: Mapping[str, float], at_most: Mapping[str, float]
) -> ConfigDict:
  """Returns the config of a release, whose inputs are `model.path` and `measurements.NAME.metrics` and `.answers`."""
  measurements = {name: dict(metrics="", answers="") for name in names}
  bounds = dict(at_least=dict(at_least), at_most=dict(at_most))
  found = dict(stage="release", title=title, use=use, model=dict(path=""), measurements=measurements, bounds=bounds)
  return ConfigDict(found)


check = check_of(ReleaseSettings, {"measurements": "some"})


def decide(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Writes the model card, and stops the recipe if the model breaks a bound.

  A measure breaks its bound if its value does; the card says whether that is beyond its 95 % interval.

  Args:
    config: a record `ReleaseSettings`.
    folder: DIR in a recipe's directory; gets model_card.md and release.json.

  Returns:
    "bounds" and "broken", their numbers.

  Raises:
    InputError: if a measurement cannot be read or lacks a bounded measure, or if a stage that the model depends on has
      not finished here.
    GateClosed: if a bound is broken.
  """
  settings = parse(ReleaseSettings, config)
  found: dict[str, Measured] = {}
  for each in settings.measurements.values():
    found |= read_measured(each.metrics) or _of_stage(each.metrics)
  bounds = list(_bounds(settings.bounds, found))
  broken = [each for each in bounds if each[-1]]
  ancestors = lineage.lineage(folder.parent, pathlib.Path(settings.model.path).name)
  answers = [each.answers for each in settings.measurements.values() if each.answers]
  card = _card(settings, found, bounds, ancestors, failures.samples(answers))
  atomic_files.write_text(folder / CARD, card)
  atomic_files.write_text(folder / VERDICT, json.dumps({"released": not broken, "bounds": bounds}, indent=2) + "\n")
  counts = {"bounds": len(bounds), "broken": len(broken)}
  if broken:
    said = "; ".join(f"{name} is {value:.3f}, {group} {bound:g}" for name, group, bound, value, *_ in broken)
    message = f"{settings.title} is not released: {said}; see {folder / CARD}; --accept={settings.stage} goes on"
    raise GateClosed(settings.stage, counts, message)
  return counts


# (measure, "at least" or "at most", bound, value, low, high, whether it is broken)
_Bound = tuple[str, str, float, float, float, float, bool]


def _bounds(bounds: ReleaseBounds, found: Mapping[str, Measured]) -> Iterator[_Bound]:
  for group, given in (("at_least", bounds.at_least), ("at_most", bounds.at_most)):
    for name, bound in given.items():
      if name not in found:
        raise InputError(f"bounds.{group}.{name}: not measured, expected one of: {', '.join(sorted(found)) or 'none'}")
      value = found[name]
      broken = value.value < bound if group == "at_least" else value.value > bound
      yield name, group.replace("_", " "), bound, *value, broken or math.isnan(value.value)


def _of_stage(path: str) -> dict[str, Measured]:
  """Reads the JSON file of attacks, probes or a judge (`recipes.attack_shares.write_measures`)."""
  try:
    told = json.loads(pathlib.Path(path).read_text("utf-8"))
    kind, found = told["of"], told["measures"]
  except (OSError, ValueError, KeyError) as error:
    raise InputError(f"{path}: cannot be read ({error}), expected what a measurement wrote") from None
  return {f"{kind}/{name}": Measured(*values) for name, values in found.items()}


def _card(
  settings: ReleaseSettings,
  found: Mapping[str, Measured],
  bounds: Sequence[_Bound],
  ancestors: Sequence[lineage.Ancestor],
  failed: Collection[failures.Failure],
) -> str:
  released = not any(each[-1] for each in bounds)
  parts = [
    f"# {settings.title}",
    settings.use,
    f"**{'Released' if released else 'Not released'}** by the bounds below.",
    "## Bounds",
    markdown_table(["measure", "bound", "value, 95 % interval", ""], [_bound_row(each) for each in bounds]),
    "## Measures",
    markdown_table(
      ["measure", "value, 95 % interval"],
      [[f"`{name}`", f"{value:.3f} [{low:.3f}, {high:.3f}]"] for name, (value, low, high) in found.items()],
    ),
    "## What it was made of",
    "The stages in order. The first digits of a sha256 stand for the content of what a stage wrote.",
    markdown_table(
      ["stage", "kind", "made of", "examples", "tokens trained", "tokens drawn", "sha256"],
      [_ancestor_row(each) for each in ancestors],
    ),
    "## Known failures",
    "Samples of what the measurements found." if failed else "The measurements found none.",
    markdown_table(["kind", "request", "answer"], [_failure_row(each) for each in failed]) if failed else "",
  ]
  return "\n\n".join(part for part in parts if part) + "\n"


def _bound_row(bound: _Bound) -> list[str]:
  name, group, limit, value, low, high, broken = bound
  sure = low > limit if group == "at most" else high < limit
  verdict = "kept" if not broken else "broken, beyond the interval" if sure else "broken, within the interval"
  return [f"`{name}`", f"{group} {limit:g}", f"{value:.3f} [{low:.3f}, {high:.3f}]", verdict]


def _ancestor_row(each: lineage.Ancestor) -> list[str]:
  counts = [each.effort.examples, each.effort.trained, each.effort.generated]
  sha256 = ", ".join(f"{name} {digits}" for name, digits in each.sha256.items())
  return [
    each.name,
    each.kind,
    ", ".join(each.needs),
    *(short_count(count) if count else "–" for count in counts),
    sha256,
  ]


def _failure_row(each: failures.Failure) -> list[str]:
  return [each.kind, *(" ".join(text.split()).replace("|", "\\|") for text in (each.asked, each.said))]
