"""Stores what a dispatch drew, and ends the answers that are finished."""

import dataclasses

import numpy as np

from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.requests import Request
from posttrain_jax.sampling.state import Drawn
from posttrain_jax.sampling.stop_strings import Decode, tokens_to_stop
from posttrain_jax.types import FinishReason, Group, Prompt


@dataclasses.dataclass
class DispatchResult:
  """Holds what was stored.

  Attributes:
    completed: the groups whose last answer ended, in the order of the slots.
    cut: slots whose answers ended at a stop string; the device does not know that yet.
    kept: tokens that were kept.
    live: tokens of the answers that ran, those that have just ended included.
  """

  completed: list[Group] = dataclasses.field(default_factory=list)
  cut: list[int] = dataclasses.field(default_factory=list)
  kept: int = 0
  live: int = 0


def not_finite(drawn: Drawn, ledger: Ledger) -> Prompt | None:
  """Returns a prompt whose drawn tokens come from logits that are not finite, or None."""
  # Not-a-number in any logit is one in the logprob of the token drawn from them.
  broken = drawn.active & ~np.isfinite(drawn.sampler_logprobs)
  return ledger.running[int(np.argwhere(broken)[0][1])].prompt if broken.any() else None


def store(
  drawn: Drawn,
  still_active: np.ndarray,
  ledger: Ledger,
  *,
  version: int,
  sampling: SamplingConfig,
  decode: Decode | None,
) -> DispatchResult:
  """Gives running requests their new tokens, and ends those that are finished.

  Args:
    drawn: what a dispatch drew.
    still_active: bool [S], slots whose answers go on.
    ledger: the running requests.
    version: of the parameters.
    sampling: stop ids and stop strings.
    decode: turns ids into text; may be None without stop strings.
  """
  found = DispatchResult()
  for slot, request in sorted(ledger.running.items()):
    count = int(drawn.active[:, slot].sum())  # a slot is active in the first steps of a dispatch, then no more
    request.tokens.append(drawn.tokens[:count, slot])
    request.sampler_logprobs.append(drawn.sampler_logprobs[:count, slot])
    request.drawn_logprobs.append(drawn.drawn_logprobs[:count, slot])
    request.versions.append(np.full((count,), version, np.int32))
    found.live += request.drawn
    stopped = _cut_at_stop_string(request, sampling.stop_strings, decode)
    found.kept += len(request.tokens[-1])
    if stopped and still_active[slot]:
      found.cut.append(slot)
    if stopped or not still_active[slot]:
      stopped = stopped or int(request.tokens[-1][-1]) in sampling.stop_ids
      found.completed += ledger.end(request, FinishReason.EOS if stopped else FinishReason.LENGTH)
  return found


def _cut_at_stop_string(request: Request, strings: tuple[str, ...], decode: Decode | None) -> bool:
  """Drops tokens after a stop string among the newest ones; says whether there is one."""
  kept = tokens_to_stop(request.tokens, strings, decode) if strings else None
  if kept is not None:
    request.keep(kept)
  return kept is not None
