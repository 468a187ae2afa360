"""From judged groups to what the learner trains on: padding, overlong filtering, advantages, micro-batches."""

from collections.abc import Sequence

import numpy as np

from posttrain_jax.learner.policy_gradient import PolicyBatch
from posttrain_jax.types import FinishReason, Group, Rollout


def stack_groups(
  groups: Sequence[Group], *, count: int, group_size: int, prompt_width: int, answer_width: int
) -> Rollout:
  """Pads groups into one rollout.

  Args:
    groups: at most `count` judged groups.
    count: P; missing groups become rows without a token, which no loss counts.
    group_size: G.
    prompt_width: Tp.
    answer_width: Tc.
  """
  answers = (count, group_size, answer_width)
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
  """Bool [P, G, Tc]: tokens that count.

  Those that the policy drew in answers that have a reward; with `overlong_filter` not those of truncated answers, which
  then leave numerator and denominator of the loss (DAPO, section 3.4).
  """
  counted = rollout.generated & rollout.valid[..., None]
  if overlong_filter:
    counted &= (rollout.finish_reasons != FinishReason.LENGTH)[..., None]
  return counted


def policy_batch(rollout: Rollout, advantages: np.ndarray, mask: np.ndarray) -> PolicyBatch:
  """The learner's view of a rollout, without old and reference logprobs.

  Args:
    rollout: the padded rollout.
    advantages: float32 [P, G, 1] or [P, G, Tc].
    mask: bool [P, G, Tc], tokens that count.
  """
  return PolicyBatch(
    prompts=rollout.prompts,
    prompt_lengths=rollout.prompt_lengths,
    answers=rollout.answers,
    mask=mask,
    advantages=advantages,
    sampler_logprobs=rollout.sampler_logprobs,
  )
