"""Settings of dynamic sampling; `dynamic_sampling` says what they are for."""

import dataclasses
import enum

from posttrain_jax.rollouts.admission import Admission
from posttrain_jax.types import InputError


class AtCap(enum.StrEnum):
  """What happens when a step has drawn as many prompts as it may and still lacks informative groups."""

  ERROR = "error"  # SamplingCapReached ends the run with exit code 1; the last checkpoint stays
  TRAIN_PARTIAL = "train_partial"  # train on the groups that there are
  STOP = "stop"  # end the run regularly, with a checkpoint


@dataclasses.dataclass(frozen=True)
class DynamicSampling:
  """Settings.

  Attributes:
    enabled: replace uninformative groups; if False a step trains on whatever it drew.
    admission: how prompts are admitted.
    max_prompts: cap on the prompts drawn for one step.
    at_cap: what to do there.
    max_staleness: `carry`: steps from a prompt's admission to training on its group, at most; 0 is on-policy.
    verdict_delay: `carry`: dispatches from the end of a group to the effect of its verdict, the time that verifiers
      have before the engine waits for them.
    batch_factor: `batch`: prompts of a batch, in multiples of N.
    retire_after: all-right groups in a row after which a prompt is not drawn any more; 0 for never. With `enabled` or
      without.
  """

  enabled: bool = True
  admission: Admission = Admission.DRAIN
  max_prompts: int = 0
  at_cap: AtCap = AtCap.ERROR
  max_staleness: int = 1
  verdict_delay: int = 1
  batch_factor: int = 3
  retire_after: int = 0

  def __post_init__(self):
    """Raises InputError on numbers out of range."""
    for name, least in (("max_staleness", 0), ("verdict_delay", 0), ("batch_factor", 1), ("retire_after", 0)):
      if getattr(self, name) < least:
        raise InputError(f"dynamic_sampling.{name}: {getattr(self, name)}, expected at least {least}")
