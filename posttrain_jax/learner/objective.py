"""Describes what a policy-gradient method minimises: the algorithm as data.

GRPO, Dr. GRPO, DAPO, GSPO, CISPO and their kin differ in the surrogate (a function of `losses.policy`), in its bounds,
in what is averaged over what, and in the terms that are added. All of these are fields of `Objective`. Advantages come
with the batch.

P prompts, G answers a prompt, Tc answer tokens.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping

import jax

from posttrain_jax import losses
from posttrain_jax.losses.aggregate import Aggregation
from posttrain_jax.losses.surrogate import is_per_token
from posttrain_jax.types import InputError

# What every surrogate takes, in this order; `losses.policy` says what the arrays are.
_SURROGATE_INPUTS = ("learner_logprobs", "old_logprobs", "advantages", "mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correction:
  """Describes the weights old / sampler of tokens.

  They correct for stale tokens and for an engine that computes differently.

  Attributes:
    level: "token", "sequence" or "geometric"; "off" leaves the correction out.
    mode: "truncate" at `high`, or "mask" outside [low, high].
    low: lower bound of the band; 0 for none.
    high: upper bound.
  """

  level: str
  mode: str
  low: float
  high: float

  def __post_init__(self):
    """Checks the fields.

    Raises:
      InputError: if the level or the mode is unknown, or the band is empty.
    """
    if self.level not in ("off", "token", "sequence", "geometric"):
      raise InputError(f"objective.correction.level: {self.level!r}, expected off, token, sequence or geometric")
    if self.mode not in ("truncate", "mask"):
      raise InputError(f"objective.correction.mode: {self.mode!r}, expected truncate or mask")
    if not 0 <= self.low < self.high:
      raise InputError(f"objective.correction: low {self.low}, high {self.high}, expected 0 <= low < high")

  @property
  def is_on(self) -> bool:
    """Returns False if the correction is left out."""
    return self.level != "off"

  def weights(self, old_logprobs: jax.Array, sampler_logprobs: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the weight of each token's surrogate, [P, G, Tc], from arrays of that shape."""
    return losses.policy.importance_correction(
      old_logprobs,
      sampler_logprobs,
      mask,
      level=self.level,
      mode=self.mode,
      low=self.low or None,
      high=self.high,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
  """Describes what is minimised.

  Attributes:
    surrogate: which function of `losses.policy`: "clipped_surrogate" (PPO, GRPO, DAPO), "sequence_clipped_surrogate"
      (GSPO), "clipped_importance_weight" (CISPO), or another one of the same arguments.
    surrogate_options: further keyword arguments of that function.
    clip_low: ratios below 1 - clip_low get no gradient where the advantage is negative; 1 is no bound.
    clip_high: ratios above 1 + clip_high get none where it is positive; above clip_low in DAPO ("clip-higher").
    dual_clip: bound on the ratio where the advantage is negative; 0 for none.
    aggregation: how token losses become one number; `learner.policy_gradient` says what each divides by.
    kl_coefficient: weight of the KL term to the reference; 0 leaves it out.
    kl_estimator: "k2", "k3" or "k3+"; k1 is refused, since as a loss its on-policy gradient is zero in expectation.
    entropy_coefficient: weight of the entropy bonus; 0 leaves it out.
    nll_on_correct: weight of the negative log-likelihood of correct answers, mean over their tokens (VAPO,
      arXiv:2504.05118, eq. 12: 0.1); 0 leaves it out.
    correction: for stale tokens and for an engine that computes differently.
    temperature: the sampling temperature, so that learner and sampler mean the same distribution; in a config
      `rollout.sampling.temperature`.
    max_new_tokens: the constant of `fixed_length`; in a config `rollout.max_new_tokens`.
    logprob_chunk: most tokens whose logits exist at a time on a device.
  """

  surrogate: str
  surrogate_options: Mapping[str, float] = dataclasses.field(hash=False)
  clip_low: float
  clip_high: float
  dual_clip: float
  aggregation: Aggregation
  kl_coefficient: float
  kl_estimator: str
  entropy_coefficient: float
  nll_on_correct: float
  correction: Correction
  temperature: float = dataclasses.field(metadata={"taken_from": "rollout.sampling.temperature"})
  max_new_tokens: int = dataclasses.field(metadata={"taken_from": "rollout.max_new_tokens"})
  logprob_chunk: int

  def __post_init__(self):
    """Checks the fields.

    Raises:
      InputError: if a value would train something else than what it says.
    """
    if self.kl_estimator not in ("k2", "k3", "k3+"):
      raise InputError(f"objective.kl_estimator: {self.kl_estimator!r}, expected k2, k3 or k3+ (k1 has no gradient)")
    if not 0 <= self.clip_low <= 1:
      raise InputError(f"objective.clip_low: {self.clip_low}, expected a number in [0, 1]")
    if self.clip_high < 0:
      raise InputError(f"objective.clip_high: {self.clip_high}, expected 0 or more")
    if self.dual_clip and self.dual_clip <= 1:
      raise InputError(f"objective.dual_clip: {self.dual_clip}, expected 0 (off) or more than 1")
    if self.logprob_chunk < 1:
      raise InputError(f"objective.logprob_chunk: {self.logprob_chunk}, expected at least 1")
    if self.temperature <= 0:
      raise InputError(f"rollout.sampling.temperature: {self.temperature}, expected more than 0 to train on samples")
    self._check_surrogate()

  @property
  def is_sum_over_tokens(self) -> bool:
    """Returns True if a token's loss depends on that token alone; then `losses.fused_loss` is used."""
    return is_per_token(getattr(losses.policy, self.surrogate)) and self.correction.level in ("off", "token")

  def surrogate_losses(
    self, learner_logprobs: jax.Array, old_logprobs: jax.Array, advantages: jax.Array, mask: jax.Array
  ) -> jax.Array:
    """Returns the surrogate's loss of each token.

    All arrays are [P, G, Tc]; advantages may be [P, G, 1].
    """
    function = getattr(losses.policy, self.surrogate)
    return function(learner_logprobs, old_logprobs, advantages, mask, **self._bounds(), **self.surrogate_options)

  def kl_to_reference(self, learner_logprobs: jax.Array, reference_logprobs: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns each token's estimate of the KL to the reference, from arrays [P, G, Tc]."""
    return losses.kl.kl_estimate(learner_logprobs, reference_logprobs, estimator=self.kl_estimator, mask=mask)

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
    """Returns those of the clip bounds that the surrogate takes."""
    bounds = {"clip_low": self.clip_low, "clip_high": self.clip_high, "dual_clip": self.dual_clip or None}
    taken = {p.name for p in _options(surrogates()[self.surrogate])}
    return {name: value for name, value in bounds.items() if name in taken}


def surrogates() -> dict[str, Callable[..., jax.Array]]:
  """Returns the functions of `losses.policy` that can be the surrogate, by name.

  Those are the public ones whose first four parameters are what a surrogate takes.
  """
  public = {name: f for name, f in vars(losses.policy).items() if inspect.isfunction(f) and not name.startswith("_")}
  return {name: f for name, f in public.items() if tuple(inspect.signature(f).parameters)[:4] == _SURROGATE_INPUTS}


def _options(function: Callable) -> list[inspect.Parameter]:
  """Returns a function's keyword-only parameters."""
  return [p for p in inspect.signature(function).parameters.values() if p.kind == inspect.Parameter.KEYWORD_ONLY]
