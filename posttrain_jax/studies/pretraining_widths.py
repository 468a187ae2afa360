"""Pretrains models of several widths on the same tokens, and draws their held-out loss.

Each width is a run of `pipelines.pretrain` with its own learning rate. All share the tokens, the order of rows and the
held-out documents.
"""

import dataclasses
import json
import pathlib
from typing import Any

import ml_collections

from posttrain_jax import atomic_files
from posttrain_jax.data import prompts
from posttrain_jax.data.documents import SHARDS, read_shards
from posttrain_jax.local_path import local_path
from posttrain_jax.pipelines.pretrain import checked, pretrain
from posttrain_jax.pipelines.pretrain_settings import PretrainSettings
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.studies.pretraining_widths_figure import WidthCurve, plot_widths
from posttrain_jax.types import InputError

_RESULTS, _FIGURE = "widths.json", "widths.png"
_LOSS = "eval/validation/loss"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthStudySettings:
  """Holds the config of the study; `configs/pretraining_widths.py` says what its fields mean.

  Attributes:
    run: what all runs have in common.
    widths: pairs (width of the residual stream, peak learning rate).
  """

  run: PretrainSettings
  widths: tuple[tuple[float, ...], ...]

  def __post_init__(self):
    """Raises InputError if a pair is none, or a width does not divide into heads."""
    if self.run.model.path:
      raise InputError(
        f"run.model.path: {self.run.model.path!r}, expected none: the models begin with random parameters"
      )
    head = self.run.model.transformer["head_dim"]
    for pair in self.widths:
      if len(pair) != 2 or pair[0] != int(pair[0]) or pair[0] % head or pair[0] < head:
        raise InputError(f"widths: {pair}, expected pairs of a multiple of head_dim = {head} and a learning rate")
    if not self.widths or not self.run.eval.every:
      raise InputError("widths: expected at least one, and run.eval.every above 0")


def study(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Makes the runs, or goes on with them, and draws what they say.

  Args:
    config: see `configs/pretraining_widths.py`.
    workdir: DIR; gets tokens/, width_<width>/, each the workdir of a run, widths.json and widths.png.

  Returns:
    Parameters and held-out loss by width, and the path of the picture.

  Raises:
    InputError: if config or input is not fit for use, before anything is trained.
    Preempted: after SIGTERM and a checkpoint.
  """
  settings = parse(WidthStudySettings, config)
  runs = {int(width): run_config(config.run, int(width), rate) for width, rate in settings.widths}
  for each in runs.values():
    checked(each)
  read_shards(settings.run.corpus.path)
  digests = {"shards": prompts.file_digest(local_path(settings.run.corpus.path, "run.corpus.path") / SHARDS)}
  with Workdir.open(workdir, as_config(settings), digests) as directory:
    folder, curves = directory.path, []
    for width, each in sorted(runs.items()):
      path = folder / f"width_{width}"
      told = pretrain(each, str(path), tokens=folder / "tokens")
      curves.append(_curve(path, width, told["parameters"]))
    results = [dataclasses.asdict(curve) for curve in curves]
    atomic_files.write_text(folder / _RESULTS, json.dumps(results, indent=2) + "\n")
    plot_widths(folder / _FIGURE, curves)
  found = {
    f"width_{curve.width}": {"parameters": curve.parameters, "tokens": curve.tokens[-1], "loss": curve.losses[-1]}
    for curve in curves
  }
  return {**found, "figure": str(folder / _FIGURE)}


def run_config(common: ml_collections.ConfigDict, width: int, learning_rate: float) -> ml_collections.ConfigDict:
  """Returns the config of one run.

  Heads keep their size, and the MLP its ratio to the width.
  """
  config = common.copy_and_resolve_references().unlock()
  model = config.model
  model.mlp_dim = model.mlp_dim * width // model.embed_dim
  model.num_heads = model.num_kv_heads = width // model.head_dim
  model.embed_dim = width
  config.optimizer.learning_rate = learning_rate
  return config


def _curve(path: pathlib.Path, width: int, parameters: int) -> WidthCurve:
  tokens, losses, seen, seconds = [], [], 0, 0.0
  for record in read_metrics(path):
    seen += int(record.get("tokens", 0))
    seconds += record.get("time/total", 0.0)
    if _LOSS in record:
      tokens.append(seen)
      losses.append(record[_LOSS])
  return WidthCurve(width, parameters, tuple(tokens), tuple(losses), seconds)
