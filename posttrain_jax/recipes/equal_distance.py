"""Compares what runs of RL earned at the same distance from where they started.

A policy that is optimised against a reward model may gain in its scores and lose in what they stand for: reward hacking
(Gao et al., 2210.10760). Runs on different reward models move at different speed, so they are compared at equal KL.
`compare` is a stage of a recipe (`recipes.runners.function`).
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.recipes.curves import TrainedRun
from posttrain_jax.reports.picture import COLORS, picture
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

DISTANCES, PICTURE = "distances.json", "distances.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistanceSettings:
  """Holds the config of a comparison.

  Attributes:
    runs: the runs by name.
    distance: the metric of the distance, such as "kl/reference".
    gold: the metric of what is wanted, which no run was trained on.
    proxy: the metric of the reward that a run was trained on; the runs' scales may differ.
    window: steps in a row that are averaged.
  """

  runs: Mapping[str, TrainedRun]
  distance: str
  gold: str
  proxy: str
  window: int = at_least(1)


def of_runs(*names: str) -> ConfigDict:
  """Returns the config of a comparison by the assistant world's rater.

  Its inputs are `runs.NAME.path`.
  """
  runs = {name: dict(path="") for name in names}
  metrics = dict(distance="kl/reference", gold="reward/rated", proxy="reward/reward_model")
  return ConfigDict(dict(runs=runs, **metrics, window=10), convert_dict=True)


def check(config: ConfigDict) -> None:
  """Checks the config of a comparison.

  Raises:
    InputError: if a field is unknown, missing or of another type, or if there are no two runs.
  """
  if len(parse(DistanceSettings, config).runs) < 2:
    raise InputError("runs: found fewer than two, expected some to compare")


def compare(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Compares runs at the largest distance that all of them reached.

  Args:
    config: a record `DistanceSettings`.
    folder: an existing one; gets distances.json with the averages of each run, and distances.png.

  Returns:
    "distance", where they are compared; of each run RUN/gold and RUN/proxy there, in the first window that gets so far,
    and RUN/gold_start, RUN/gold_best, RUN/gold_end, RUN/proxy_start, RUN/proxy_end and RUN/distance_end.

  Raises:
    InputError: if a run lacks one of the metrics, or has fewer steps than a window.
  """
  settings = parse(DistanceSettings, config)
  averages = {name: _averages(each.path, settings) for name, each in settings.runs.items()}
  distance = min(float(each["distance"].max()) for each in averages.values())
  found = {"distance": distance}
  for name, each in averages.items():
    there = int(np.argmax(each["distance"] >= distance))
    gold, proxy = each["gold"], each["proxy"]
    values = {"gold": gold[there], "gold_start": gold[0], "gold_best": gold.max(), "gold_end": gold[-1]}
    values |= {"proxy": proxy[there], "proxy_start": proxy[0], "proxy_end": proxy[-1]}
    values["distance_end"] = each["distance"][-1]
    found |= {f"{name}/{value}": float(number) for value, number in values.items()}
  points = {name: {key: values.tolist() for key, values in each.items()} for name, each in averages.items()}
  atomic_files.write_text(folder / DISTANCES, json.dumps(points, indent=2) + "\n")
  _picture(folder / PICTURE, averages, distance)
  return found


def _averages(path: str, settings: DistanceSettings) -> dict[str, np.ndarray]:
  """Returns the averages of a run's metrics over each window."""
  records = [record for record in read_metrics(path) if record["step"] > 0]
  found = {}
  for name in ("distance", "gold", "proxy"):
    metric = getattr(settings, name)
    # A step has no value where a judge gave no score or a rule judged all answers. The others keep their place.
    count = sum(metric in record for record in records)
    if count < settings.window:
      raise InputError(f"{path}: found {metric} in {count} steps, expected at least window = {settings.window}")
    values = np.array([record.get(metric) for record in records], float)  # None becomes NaN
    found[name] = _window_means(values, settings.window)
  return found


def _window_means(values: np.ndarray, window: int) -> np.ndarray:
  """Returns the mean of each window over the steps that have a value; NaN without one.

  A step in which a judge gave no score has none.
  """
  present, ones = np.isfinite(values), np.ones(window)
  counts = np.convolve(present, ones, mode="valid")
  sums = np.convolve(np.where(present, values, 0.0), ones, mode="valid")
  return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _picture(path: pathlib.Path, averages: Mapping[str, Mapping[str, np.ndarray]], distance: float) -> None:
  with picture(path, width=7, height=2.8) as figure:
    for axes, metric in zip(figure.subplots(1, 2), ("gold", "proxy")):
      for number, (name, each) in enumerate(averages.items()):
        axes.plot(each["distance"], each[metric], color=COLORS[number % len(COLORS)], label=name, linewidth=1.2)
      axes.axvline(distance, color="0.6", linewidth=0.8)
      axes.set_title(f"{metric} reward", loc="left", fontsize=9)
      axes.set_xlabel("distance from the start", fontsize=8)
      axes.legend(frameon=False, fontsize=7)
