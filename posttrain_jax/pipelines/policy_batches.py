"""Makes the learner's batches from judged groups: padding, masks and logprobs.

A step of `pipelines.grpo` calls these in order: `stack_groups` pads, `training_mask` says which tokens count,
`policy_batch` is what logprobs are computed of, and `LogprobSources` computes those that the method needs.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from flax import nnx

from posttrain_jax.learner.packing import Packings
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.rollouts.multi_process import shared
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import FinishReason, Group, Judge, Rollout


@dataclasses.dataclass(frozen=True)
class RolloutShape:
  """Holds the sizes of a padded rollout.

  Attributes:
    groups: P.
    group_size: G.
    prompt_width: Tp, in tokens.
    answer_width: Tc, in tokens.
  """

  groups: int
  group_size: int
  prompt_width: int
  answer_width: int


def stack_groups(groups: Sequence[Group], shape: RolloutShape) -> Rollout:
  """Pads groups into one rollout.

  Args:
    groups: at most P judged groups. Missing groups become rows without a token, which no loss counts.
    shape: P, G, Tp and Tc.
  """
  count, prompt_width = shape.groups, shape.prompt_width
  answers = (count, shape.group_size, shape.answer_width)
  rollout = Rollout(
    prompts=np.zeros((count, prompt_width), np.int32),
    prompt_lengths=np.ones((count,), np.int32),
    answers=np.zeros(answers, np.int32),
    lengths=np.zeros(answers[:2], np.int32),
    generated=np.zeros(answers, bool),
    finish_reasons=np.full(answers[:2], FinishReason.CANCELLED, np.int32),
    sampler_logprobs=np.zeros(answers, np.float32),
    drawn_logprobs=np.zeros(answers, np.float32),
    versions=np.zeros(answers, np.int32),
    accuracy=np.zeros(answers[:2], np.float32),
    rewards=np.zeros(answers[:2], np.float32),
    valid=np.zeros(answers[:2], bool),
  )
  for p, group in enumerate(groups):
    rollout.prompts[p, : len(group.prompt.tokens)] = group.prompt.tokens
    rollout.prompt_lengths[p] = len(group.prompt.tokens)
    for name in ("accuracy", "rewards", "valid"):
      getattr(rollout, name)[p] = getattr(group, name)
    for g, answer in enumerate(group.answers):
      n = len(answer.tokens)
      rollout.lengths[p, g], rollout.finish_reasons[p, g] = n, answer.finish_reason
      generated = np.ones((n,), bool) if answer.generated is None else answer.generated
      rollout.generated[p, g, :n] = generated
      for name in ("sampler_logprobs", "drawn_logprobs", "versions"):
        getattr(rollout, name)[p, g, :n] = np.where(generated, getattr(answer, name), 0)
      rollout.answers[p, g, :n] = answer.tokens
  return rollout


def training_mask(rollout: Rollout, *, overlong_filter: bool) -> np.ndarray:
  """Returns which tokens count in the loss, bool [P, G, Tc].

  Those that the policy drew in answers that have a reward; with `overlong_filter` not those of truncated answers, which
  then leave numerator and denominator of the loss (DAPO, section 3.4).
  """
  counted = rollout.generated & rollout.valid[..., None]
  if overlong_filter:
    counted &= (rollout.finish_reasons != FinishReason.LENGTH)[..., None]
  return counted


def policy_batch(rollout: Rollout, mask: np.ndarray, *, right_above: float = 0.5) -> PolicyBatch:
  """Makes the learner's batch of a rollout, with advantages of 0 and without logprobs.

  Args:
    rollout: the padded rollout.
    mask: bool [P, G, Tc], tokens that count.
    right_above: an answer with an accuracy above it is correct.
  """
  return PolicyBatch(
    prompts=rollout.prompts,
    prompt_lengths=rollout.prompt_lengths,
    answers=rollout.answers,
    mask=mask,
    advantages=np.zeros((*mask.shape[:2], 1), np.float32),
    sampler_logprobs=rollout.sampler_logprobs,
    correct=(rollout.accuracy > right_above) & rollout.valid,
  )


@dataclasses.dataclass(frozen=True)
class Logprobs:
  """Holds logprobs of a batch's answers, float32 [P, G, Tc] each.

  Those that the method does not need are None.

  Attributes:
    old: the learner's when the step began.
    reference: the frozen reference's.
    teacher: a teacher's (on-policy distillation, 2306.13649).
  """

  old: np.ndarray | None = None
  reference: np.ndarray | None = None
  teacher: np.ndarray | None = None


@dataclasses.dataclass
class LogprobSources:
  """Computes the logprobs that a step needs before its first update, and no others.

  Attributes:
    learner: whose old logprobs are computed.
    old: whether they are needed here. If not, the learner computes those of an on-policy update in that update.
    reference: the reference's frozen parameters, in the learner's layout; None if nothing needs them.
    reference_kept: in whose memory they are between steps.
    teacher: computes logprobs of a batch under the teacher, with its packings; None without one.
  """

  learner: PolicyLearner
  old: bool = False
  reference: nnx.State | None = None
  reference_kept: Kept = Kept.DEVICE
  teacher: Callable[[PolicyBatch, Packings], np.ndarray] | None = None

  def refresh_reference(self) -> None:
    """Makes the learner's current parameters the reference."""
    self.reference = self.learner.scorer.freeze(self.learner.state.params, self.reference_kept)

  def __call__(self, batch: PolicyBatch, packings: Packings) -> Logprobs:
    """Returns the logprobs of a batch that the method needs.

    Args:
      batch: host arrays.
      packings: keeps how they are packed, for the step's updates.
    """
    return Logprobs(
      old=self.learner.score(batch, packings) if self.old else None,
      reference=None if self.reference is None else self.learner.scorer(self.reference, batch, packings),
      teacher=None if self.teacher is None else self.teacher(batch, packings),
    )


def greedy_rewards(engine: Engine, judge: Judge) -> Callable[[Sequence[Group]], np.ndarray]:
  """Makes the function that returns rewards of the policy's greedy answers to groups' prompts.

  Args:
    engine: the engine of the rollouts. Greedy answers are drawn with the parameters that it has at the call.
    judge: fills in rewards.

  Returns:
    A function of groups that returns float32 [number of groups]: NaN if an answer has no reward.
  """
  greedy = Engine(
    engine.model,
    engine.sampling.greedy(),
    Sizes(
      slots=engine.sizes.slots,
      max_prompt_length=engine.sizes.max_prompt_length,
      max_new_tokens=engine.sizes.max_new_tokens,
    ),
    seed=engine.seed,
    decode=engine.decode,
    mesh=engine.mesh,
  )

  def rewards(groups: Sequence[Group]) -> np.ndarray:
    greedy.load(engine.params, engine.version)
    judged = shared([group.prompt for group in groups], lambda own: judge(greedy.generate(own, 1)))
    greedy.unload()
    return np.array([group.rewards[0] if group.valid[0] else np.nan for group in judged], np.float32)

  return rewards
