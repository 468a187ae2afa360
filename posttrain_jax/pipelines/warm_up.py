"""Warms a policy up on demonstrations, before another method trains it."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import rich.console
from absl import logging
from jax.sharding import Mesh

from posttrain_jax.assembly.model import ModelSettings, Policy, Vocabulary
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.parallel.processes import several
from posttrain_jax.pipelines.supervised import Evaluate, SupervisedSettings, fit, prepare
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.settings import as_config, naming
from posttrain_jax.runs.warmup_cache import WarmUpCache
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmUpSettings(SupervisedSettings):
  """Holds a method's `warmup` section.

  Attributes:
    given_model: whether a model that the config names is warmed up too, and not only a random one.
  """

  given_model: bool


class WarmUp:
  """Warms a policy up on demonstrations before another method.

  The warm-up is a run in the folder `warmup` of that run's directory. A finished one is kept for other runs that need
  the same (`runs.warmup_cache`). A model that the config names is not warmed up, unless the config says so.

  Attributes:
    digests: "warmup.demonstrations" to the sha256 of what was read; empty where there is no warm-up.
    is_wanted: whether there is a warm-up.
    is_procedural: whether it trains on the procedural task.
  """

  def __init__(self, settings: WarmUpSettings | None, policy: Policy, mesh: Mesh, *, seed: int):
    """Reads the demonstrations, before anything is written.

    Args:
      settings: the config's `warmup`; None for a method without one.
      policy: the model that training starts from.
      mesh: the devices that compute.
      seed: the config's.

    Raises:
      InputError: as `prepare`.
    """
    self._policy, self._mesh, self._seed = policy, mesh, seed
    self.is_wanted, self.digests = settings is not None and settings.has_steps, {}
    if self.is_wanted and policy.params is not None and not settings.given_model:
      logging.warning("warmup: left out, since model.path names a model; warmup.given_model=True warms it up as well")
      self.is_wanted = False
    self.is_procedural = self.is_wanted and not settings.demonstrations.path
    if self.is_wanted:
      with naming("warmup", settings):
        self._settings, self._data = prepare(settings, policy, mesh, seed)
      self.digests = {f"warmup.{name}": digest for name, digest in self._data.digests.items()}

  def check_own_data(self, path: str, where: str, model: ModelSettings) -> None:
    """Refuses a warm-up on the procedural task before data of one's own.

    Only a model that reads bytes is refused: any other random one reads nothing but the procedural task.

    Args:
      path: of the data; empty for the procedural task.
      where: the config field that has the path.
      model: the config's `model`.

    Raises:
      InputError: if it would be.
    """
    reads_bytes = not model.path and model.vocabulary == Vocabulary.BYTES
    if path and reads_bytes and self.is_procedural:
      raise InputError(
        f"warmup: would train on the procedural task, while {where} is {path}; expected warmup.demonstrations.path "
        "(demonstrations of your own), model.path (a model that is trained already), or warmup.steps=0"
      )

  def __call__(
    self,
    directory: pathlib.Path,
    evaluator: Evaluate | None,
    preemption: Preemption,
    *,
    optimizer_kept: Kept = Kept.DEVICE,
    inputs: Mapping[str, Any] | None = None,
  ) -> Policy:
    """Returns the warmed-up policy, or the loaded one if there is no warm-up.

    Args:
      directory: the run's.
      evaluator: as in `fit`.
      preemption: whether SIGTERM arrived.
      optimizer_kept: as in `fit`.
      inputs: JSON values of what else decides the warm-up's bits and metrics, such as the model and the evaluation.
        None: it is neither taken from the cache nor kept there.

    Raises:
      Preempted: after SIGTERM and a checkpoint.
      Diverged: if too many updates in a row were not finite.
    """
    if not self.is_wanted:
      return self._policy
    path, cache = directory / "warmup", None
    if inputs is not None and not several():
      own = {"warmup": as_config(self._settings), "mesh": dict(self._mesh.shape), "seed": self._seed}
      cache = WarmUpCache({**inputs, **own, **self.digests})
      taken = cache.take(path)
      if taken:
        rich.console.Console(stderr=True).print(taken, highlight=False, markup=False, soft_wrap=True)
    path.mkdir(exist_ok=True)
    params = fit(
      self._settings,
      self._policy,
      self._mesh,
      self._data,
      path,
      evaluator,
      preemption,
      seed=self._seed,
      optimizer_kept=optimizer_kept,
    )
    if cache is not None:
      cache.keep(path)
    return dataclasses.replace(self._policy, params=params)
