"""Describes the config of the study of over-optimisation."""

import dataclasses
from collections.abc import Mapping

from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.assembly.prompts import PromptSettings
from posttrain_jax.assembly.rollout_engine import EngineSettings
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSettings:
  """Holds the `pairs` section.

  Attributes:
    noise: probability that a pair has the wrong label.
  """

  noise: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxySettings:
  """Holds the `proxy` section.

  Attributes:
    sizes: numbers of pairs that reward models are trained on, ascending.
    repeats: reward models of a size, on disjoint sets of pairs; curves are means over them.
    updates: of each reward model.
    batch_size: pairs of an update.
    centering: weight of the squared sum of a pair's rewards.
    max_skipped_updates: updates in a row that are not finite which end the study.
    optimizer: the optimiser.
  """

  sizes: tuple[int, ...]
  repeats: int = at_least(1)
  updates: int = at_least(1)
  batch_size: int = at_least(1)
  centering: float
  max_skipped_updates: int = at_least(1)
  optimizer: OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestOfNSettings:
  """Holds the `best_of_n` section.

  Attributes:
    samples: answers to each held-out prompt, from which every n is estimated.
    n: numbers of answers of which the best is taken, ascending from 1.
    resamples: of the bootstrap over prompts.
  """

  samples: int = at_least(1)
  n: tuple[int, ...]
  resamples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class OveroptimizationSettings:
  """Holds the config of the study; `configs/tiny_overoptimization.py` says what its fields mean."""

  seed: int
  model: ModelSettings
  mesh: Mapping[str, int]
  warmup: WarmUpSettings
  rewards: RewardSettings
  prompts: PromptSettings
  held_out: PromptSettings
  rollout: EngineSettings
  pairs: PairSettings
  proxy: ProxySettings
  best_of_n: BestOfNSettings

  def __post_init__(self):
    """Raises InputError if numbers are not in order."""
    n, sizes = self.best_of_n.n, self.proxy.sizes
    if len(n) < 3 or n[0] != 1 or list(n) != sorted(set(n)) or n[-1] > self.best_of_n.samples:
      raise InputError(
        f"best_of_n.n: {n}, expected at least three ascending numbers from 1 to "
        f"best_of_n.samples = {self.best_of_n.samples}"
      )
    if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
      raise InputError(f"proxy.sizes: {sizes}, expected ascending numbers of pairs")
    if not 0 <= self.pairs.noise < 0.5:
      raise InputError(f"pairs.noise: {self.pairs.noise}, expected a probability below 0.5")
    self.proxy.optimizer.check("proxy.optimizer")
