"""Builds the programs that GRPO and PPO share: updates and scoring."""

import dataclasses
import math

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.rollout_engine import RolloutSettings
from posttrain_jax.learner.policy_batch import PolicyBatch, pack_policy
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.row_plan import plan_rows
from posttrain_jax.learner.scoring import Scorer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.compile.program import Program, shapes
from posttrain_jax.performance.counts import Pass, as_update, group_pass
from posttrain_jax.pipelines.policy_batches import RolloutShape, policy_batch, stack_groups, training_mask


def widest_batch(rollout: RolloutSettings, *, count: int, per_token: bool) -> PolicyBatch:
  """Returns a batch of the greatest width, filled with padding, without optional fields.

  Its zeros take no memory, as the operating system gives pages to an array only when they are written.

  Args:
    rollout: the config's section.
    count: P, prompts.
    per_token: whether each token has its own advantage.
  """
  shape = RolloutShape(count, rollout.group_size, rollout.max_prompt_length, rollout.max_new_tokens)
  padded = stack_groups([], shape)
  advantages = np.zeros((count, rollout.group_size, rollout.max_new_tokens if per_token else 1), np.float32)
  batch = policy_batch(padded, training_mask(padded, overlong_filter=False))
  return dataclasses.replace(batch, advantages=advantages)


def forward_pass(
  rollout: RolloutSettings, model: TransformerConfig, *, prompts: int, answer_length: int, parts: int = 1
) -> Pass:
  """Counts a forward pass over groups.

  Prompts have the greatest length.

  Args:
    rollout: the config's section.
    model: the transformer.
    prompts: number of groups.
    answer_length: tokens of each answer.
    parts: micro-batches in which they run.
  """
  return group_pass(
    model,
    prompts=prompts,
    prompt_length=rollout.max_prompt_length,
    answers=rollout.group_size,
    answer_length=answer_length,
    parts=parts,
  )


def updates(learner: PolicyLearner, batch: PolicyBatch, *, count: int, forward: Pass) -> dict[str, Program]:
  """Returns the programs of a step's policy updates, of which the first is on-policy.

  Args:
    learner: with an abstract state.
    batch: of one update.
    count: updates in a step.
    forward: a forward pass over the batch.
  """
  programs = {}
  for name, on_policy, calls in (("update_on_policy", True, 1), ("update_off_policy", False, count - 1)):
    if calls:
      given = batch if on_policy else dataclasses.replace(batch, old_logprobs=batch.sampler_logprobs)
      ((part, packing),) = learner.scorer.split(given)
      update = pack_policy(part, packing)
      programs[name] = Program(
        learner.update[on_policy],
        (learner.state, shapes(learner.with_text(update, 0))),
        learner.mesh,
        calls=calls,
        work=as_update(forward),
        takes=("policy", "optimizer"),
      )
  return programs


def scoring(
  scorer: Scorer, params: nnx.State, batch: PolicyBatch, mesh: Mesh, *, calls: int, forward: Pass, of: str
) -> Program:
  """Returns the program of a scorer.

  Args:
    scorer: the scorer.
    params: abstract parameters.
    batch: of one update.
    mesh: mesh under which the scorer runs.
    calls: calls in a step.
    forward: a forward pass over the batch.
    of: name of the parameters among the run's arrays.
  """
  ((_, packing),) = scorer.split(batch)
  return Program(scorer.program, (params, shapes(packing.forward())), mesh, calls=calls, work=forward, takes=(of,))


def micro_batches(scorer: Scorer, batch: PolicyBatch, answer_length: int) -> int:
  """Returns the micro-batches of an update.

  Prompts have the greatest length, and all answers a given one.

  Args:
    scorer: cuts the batch into rows.
    batch: of one update.
    answer_length: tokens of each answer.
  """
  ((_, packing),) = scorer.split(batch)
  sizes, (prompts, group, _) = packing.sizes, batch.mask.shape
  rows = plan_rows(
    np.full((prompts,), batch.prompts.shape[1] - 1),
    np.full((prompts, group), answer_length),
    tokens=sizes.tokens,
    most_answers=sizes.answers,
    shards=sizes.shards,
    most_rows=sizes.micro_batches * sizes.shards,
    together=bool(sizes.groups),
  )
  return math.ceil(len(rows) / sizes.shards)
