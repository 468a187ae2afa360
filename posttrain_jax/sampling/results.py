"""Stores what a dispatch drew, and ends the answers that are finished."""

import dataclasses

import numpy as np

from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.own_draw import TopTokens
from posttrain_jax.sampling.own_sampling import PerRequest
from posttrain_jax.sampling.requests import Request
from posttrain_jax.sampling.state import Drawn
from posttrain_jax.sampling.stop_strings import Decode, tokens_to_stop
from posttrain_jax.types import FinishReason, Group, Prompt


@dataclasses.dataclass(frozen=True)
class NewTokens:
  """Holds what one dispatch added to an answer.

  Attributes:
    prompt: of its group.
    sample: its number in the group.
    tokens: int32 [n], those that are kept.
    sampler_logprobs: float32 [n].
    drawn_logprobs: float32 [n].
    top: [n, K], the most likely tokens; None if the engine has none, zeros if the request did not ask for them.
    finish_reason: why the answer ended; None if it goes on.
  """

  prompt: Prompt
  sample: int
  tokens: np.ndarray
  sampler_logprobs: np.ndarray
  drawn_logprobs: np.ndarray
  top: TopTokens | None
  finish_reason: FinishReason | None


@dataclasses.dataclass
class DispatchResult:
  """Holds what was stored.

  Attributes:
    completed: the groups whose last answer ended, in the order of the slots.
    cut: slots whose answers ended at a stop string; the device does not know that yet.
    kept: tokens that were kept.
    live: tokens of the answers that ran, those that have just ended included.
    new: what each answer got, in the order of the slots.
  """

  completed: list[Group] = dataclasses.field(default_factory=list)
  cut: list[int] = dataclasses.field(default_factory=list)
  kept: int = 0
  live: int = 0
  new: list[NewTokens] = dataclasses.field(default_factory=list)


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
  sampling: SamplingConfig | PerRequest,
  decode: Decode | None,
) -> DispatchResult:
  """Gives running requests their new tokens, and ends those that are finished.

  Args:
    drawn: what a dispatch drew.
    still_active: bool [S], slots whose answers go on.
    ledger: the running requests.
    version: of the parameters.
    sampling: stop ids, and stop strings of requests without a sampling of their own.
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
    strings = (request.own.config if request.own else sampling).stop_strings
    stopped = _cut_at_stop_string(request, strings, decode)
    found.kept += len(request.tokens[-1])
    if stopped and still_active[slot]:
      found.cut.append(slot)
    reason = None
    if stopped or not still_active[slot]:
      stopped = stopped or int(request.tokens[-1][-1]) in sampling.stop_ids
      reason = FinishReason.EOS if stopped else FinishReason.LENGTH
      found.completed += ledger.end(request, reason)
    found.new.append(_new_tokens(request, drawn.top, slot, reason))
  return found


def _new_tokens(request: Request, top: TopTokens | None, slot: int, reason: FinishReason | None) -> NewTokens:
  count = len(request.tokens[-1])
  return NewTokens(
    request.prompt,
    request.sample,
    request.tokens[-1],
    request.sampler_logprobs[-1],
    request.drawn_logprobs[-1],
    None if top is None else TopTokens(top.tokens[:count, slot], top.logprobs[:count, slot]),
    reason,
  )


def _cut_at_stop_string(request: Request, strings: tuple[str, ...], decode: Decode | None) -> bool:
  """Drops tokens after a stop string among the newest ones; says whether there is one."""
  kept = tokens_to_stop(request.tokens, strings, decode) if strings else None
  if kept is not None:
    request.keep(kept)
  return kept is not None
