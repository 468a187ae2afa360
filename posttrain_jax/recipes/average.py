"""Averages the parameters of models, or chooses one checkpoint of a run.

Llama 3 (2407.21783, section 4.1.5) averages models of several data sets and hyperparameters in every stage. With one
model this chooses: the best checkpoint of a run (an epoch of SFT), or the moving average of PPO's policy.
"""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from posttrain_jax.assembly.model import (
  COMPUTE_FIELDS,
  Policy,
  Which,
  digests,
  of_same_sizes,
  open_policy,
  save_description,
)
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class AveragedModel:
  """Describes one of the models that are averaged.

  Attributes:
    path: PATH_OR_NAME.
    checkpoint: which of a workdir's checkpoints; None for the latest, or for a model that is no workdir.
    weight: of its parameters; weights are divided by their sum.
  """

  path: str
  checkpoint: Which | None
  weight: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageOfModels:
  """Holds the config of an average.

  Attributes:
    models: the models by name.
  """

  models: Mapping[str, AveragedModel]

  def __post_init__(self):
    """Raises InputError if there is no model, or if the weights have no positive sum."""
    total = sum(each.weight for each in self.models.values())
    if not self.models or not math.isfinite(total) or total <= 0:
      raise InputError(f"models: {len(self.models)} with weights that sum to {total:g}, expected a sum above 0")


def models(*names: str, checkpoint: Which | None = None) -> ConfigDict:
  """Returns the config of an average with equal weights, whose paths are inputs `models.NAME.path`."""
  return ConfigDict({"models": {name: dict(path="", checkpoint=checkpoint, weight=1.0) for name in names}})


check = check_of(AverageOfModels)


def average(config: ConfigDict, folder: pathlib.Path) -> dict[str, str | int]:
  """Writes the weighted average of models as a workdir, which can be loaded by its path.

  It is computed in float64.

  Args:
    config: a record `AverageOfModels`.
    folder: DIR; gets config.json and checkpoints/0.

  Returns:
    "models", their number, and "params_sha256" of the average.

  Raises:
    InputError: if a model cannot be loaded, or if sizes or tokenisers differ.
  """
  settings = parse(AverageOfModels, config)
  total = sum(each.weight for each in settings.models.values())
  first, summed, read = None, None, {}
  for name, each in settings.models.items():
    policy = open_policy(each.path, each.checkpoint)
    found = digests(each.path, policy.tokenizer)
    read |= {f"models.{name}.{kind}": digest for kind, digest in found.items()}
    first = policy if first is None else first
    _check_alike(first, policy, f"models.{name}")
    share = each.weight / total
    part = jax.tree.map(lambda leaf, share=share: np.asarray(leaf, np.float64) * share, policy.params)
    summed = part if summed is None else jax.tree.map(np.add, summed, part)
  assert first is not None
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), summed)
  with contextlib.ExitStack() as stack:
    path = stack.enter_context(Workdir.open(folder, as_config(settings), read)).path
    save_description(first, path)
    _save(path, params)
  return {"models": len(settings.models), "params_sha256": params_sha256(params)}


def _save(path: pathlib.Path, params: nnx.State) -> None:
  with Checkpointer(path / "checkpoints", keep=1) as checkpoints:
    checkpoints.save(0, {"params": jax.tree.map(jax.numpy.asarray, params)}, {})


def _check_alike(first: Policy, policy: Policy, where: str) -> None:
  """Raises InputError if two models have other sizes or other tokenisers."""
  if not of_same_sizes(first.model, policy.model):
    ours, theirs = (dataclasses.asdict(each.model) for each in (first, policy))
    field = next(name for name in theirs if theirs[name] != ours[name] and name not in COMPUTE_FIELDS)
    raise InputError(
      f"{where}: {field} is {theirs[field]}, that of the first model {ours[field]}; expected equal sizes"
    )
  if first.tokenizer.digest() != policy.tokenizer.digest():
    raise InputError(f"{where}: has another tokeniser than the first model, expected the same")
