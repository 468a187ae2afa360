"""What a policy-gradient method minimises: the algorithm as data.

GRPO, Dr. GRPO, DAPO, GSPO, CISPO and their kin differ in the surrogate (a function of `losses.policy`), in its bounds,
in what is averaged over what, and in the terms that are added; all of them are fields of `Objective`. Advantages come
with the batch.

P prompts, G answers a prompt, Tc answer tokens.
"""

import dataclasses
import enum
import inspect
from collections.abc import Callable, Mapping

import jax

from posttrain_jax import losses
from posttrain_jax.types import InputError

# What every surrogate takes, in this order; `losses.policy` says what the arrays are.
_SURROGATE_INPUTS = ("learner_logprobs", "old_logprobs", "advantages", "mask")


class Aggregation(enum.StrEnum):
  """What the loss averages over what; the functions of the same names are in `losses.aggregate`."""

  TOKEN_MEAN = "token_mean"
  PROMPT_MEAN = "prompt_mean"
  SEQUENCE_MEAN = "sequence_mean"
  SEQUENCE_SUM = "sequence_sum"
  FIXED_LENGTH = "fixed_length"


@dataclasses.dataclass(frozen=True)
class Correction:
  """Weights old / sampler for stale tokens and for an engine that computes differently (`losses.policy`).

  Attributes:
    level: "token", "sequence" or "geometric"; "off" leaves the correction out.
    mode: "truncate" at `high`, or "mask" outside [low, high].
    low: lower bound of the band; 0 for none.
    high: upper bound.
  """

  level: str = "token"
  mode: str = "truncate"
  low: float = 0.0
  high: float = 2.0

  def __post_init__(self):
    """Raises InputError on an unknown level or mode."""
    if self.level not in ("off", "token", "sequence", "geometric"):
      raise InputError(f"correction.level: {self.level!r}, expected off, token, sequence or geometric")
    if self.mode not in ("truncate", "mask"):
      raise InputError(f"correction.mode: {self.mode!r}, expected truncate or mask")
    if not 0 <= self.low < self.high:
      raise InputError(f"correction: low {self.low}, high {self.high}, expected 0 <= low < high")


@dataclasses.dataclass(frozen=True)
class Objective:
  """What is minimised.

  Attributes:
    surrogate: which function of `losses.policy`: "clipped_surrogate" (PPO, GRPO, DAPO), "sequence_clipped_surrogate"
      (GSPO), "clipped_importance_weight" (CISPO), or another one of the same arguments.
    surrogate_options: further keyword arguments of that function.
    clip_low: ratios below 1 - clip_low get no gradient where the advantage is negative; 1 is no bound.
    clip_high: ratios above 1 + clip_high get none where it is positive; above clip_low in DAPO ("clip-higher").
    dual_clip: bound on the ratio where the advantage is negative; 0 for none.
    aggregation: how token losses become one number.
    kl_coefficient: weight of the KL term to the reference; 0 leaves it out.
    kl_estimator: "k2", "k3" or "k3+"; k1 is refused, since as a loss its on-policy gradient is zero in expectation.
    entropy_coefficient: weight of the entropy bonus; 0 leaves it out.
    nll_on_correct: weight of the negative log-likelihood of correct answers, mean over their tokens (VAPO, 2504.05118,
      eq. 12: 0.1); 0 leaves it out.
    correction: staleness and engine mismatch.
    temperature: the sampling temperature, so that learner and sampler mean the same distribution.
    max_new_tokens: the constant of `fixed_length`.
    logprob_chunk: most tokens whose logits exist at a time on a device.
  """

  surrogate: str = "clipped_surrogate"
  surrogate_options: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
  clip_low: float = 0.2
  clip_high: float = 0.28
  dual_clip: float = 0.0
  aggregation: Aggregation = Aggregation.TOKEN_MEAN
  kl_coefficient: float = 0.0
  kl_estimator: str = "k3"
  entropy_coefficient: float = 0.0
  nll_on_correct: float = 0.0
  correction: Correction = Correction()
  temperature: float = dataclasses.field(default=1.0, metadata={"taken_from": "rollout.sampling.temperature"})
  max_new_tokens: int = dataclasses.field(default=0, metadata={"taken_from": "rollout.max_new_tokens"})
  logprob_chunk: int = 1024

  def __post_init__(self):
    """Raises InputError on values that would train something else than what they say."""
    if self.kl_estimator not in ("k2", "k3", "k3+"):
      raise InputError(f"objective.kl_estimator: {self.kl_estimator!r}, expected k2, k3 or k3+ (k1 has no gradient)")
    if not 0 <= self.clip_low <= 1 or self.clip_high < 0:
      raise InputError(f"objective.clip: low {self.clip_low}, high {self.clip_high}, expected low in [0, 1], high >= 0")
    if self.dual_clip and self.dual_clip <= 1:
      raise InputError(f"objective.dual_clip: {self.dual_clip}, expected 0 (off) or more than 1")
    if self.logprob_chunk < 1:
      raise InputError(f"objective.logprob_chunk: {self.logprob_chunk}, expected at least 1")
    if self.temperature <= 0:
      raise InputError(f"rollout.sampling.temperature: {self.temperature}, expected more than 0 to train on samples")
    self._check_surrogate()

  @property
  def is_sum_over_tokens(self) -> bool:
    """True if no token's loss looks at another token, so that `losses.token_loss` gives the gradient."""
    return hasattr(losses.token_surrogates, self.surrogate) and self.correction.level in ("off", "token")

  def _check_surrogate(self) -> None:
    known = surrogates()
    if self.surrogate not in known:
      raise InputError(f"objective.surrogate: {self.surrogate!r}, expected one of {', '.join(sorted(known))}")
    options = {p.name: p for p in _options(known[self.surrogate])}
    for name in self.surrogate_options:
      if name not in options or name in self._bounds():
        free = ", ".join(sorted(set(options) - set(self._bounds()))) or "none"
        raise InputError(f"objective.surrogate_options.{name}: unknown to {self.surrogate}, expected {free}")
    for name, value in self.surrogate_options.items():
      if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"objective.surrogate_options.{name}: {value!r}, expected a number")
    for name, parameter in options.items():
      if parameter.default is inspect.Parameter.empty and name not in {**self.surrogate_options, **self._bounds()}:
        raise InputError(f"objective.surrogate_options.{name}: missing, {self.surrogate} needs it")
    if self.dual_clip and "dual_clip" not in options:
      raise InputError(f"objective.dual_clip: {self.dual_clip}, but {self.surrogate} has none; expected 0")

  def _bounds(self) -> dict[str, float | None]:
    """Those of the clip bounds that the surrogate takes."""
    bounds = {"clip_low": self.clip_low, "clip_high": self.clip_high, "dual_clip": self.dual_clip or None}
    taken = {p.name for p in _options(surrogates()[self.surrogate])}
    return {name: value for name, value in bounds.items() if name in taken}

  def token_losses(
    self, learner_logprobs: jax.Array, old_logprobs: jax.Array, advantages: jax.Array, mask: jax.Array
  ) -> jax.Array:
    """The surrogate's loss of each token, [P, G, Tc], from arrays of that shape (advantages may be [P, G, 1])."""
    function = getattr(losses.policy, self.surrogate)
    return function(learner_logprobs, old_logprobs, advantages, mask, **self._bounds(), **self.surrogate_options)


def surrogates() -> dict[str, Callable[..., jax.Array]]:
  """The functions of `losses.policy` that can be the surrogate: those that take what a surrogate takes."""
  public = {name: f for name, f in vars(losses.policy).items() if inspect.isfunction(f) and not name.startswith("_")}
  return {name: f for name, f in public.items() if tuple(inspect.signature(f).parameters)[:4] == _SURROGATE_INPUTS}


def _options(function: Callable) -> list[inspect.Parameter]:
  """A function's keyword-only parameters."""
  return [p for p in inspect.signature(function).parameters.values() if p.kind == inspect.Parameter.KEYWORD_ONLY]
