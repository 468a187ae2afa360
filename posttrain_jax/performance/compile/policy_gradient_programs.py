"""Lists the programs of GRPO and its kin, and of PPO, with abstract arguments."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.learner.ema import make_average
from posttrain_jax.learner.mixture import Text
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.learner.value import ValueBatch
from posttrain_jax.learner.value_learner import ValueLearner
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.performance.compile.policy_programs import (
  forward_pass,
  micro_batches,
  scoring,
  updates,
  widest_batch,
)
from posttrain_jax.performance.compile.program import Program, RunPrograms, bytes_per_device, shapes
from posttrain_jax.performance.compile.reward_model_programs import rewarding
from posttrain_jax.performance.compile.sampling_programs import of_rollout
from posttrain_jax.performance.counts import Copy, as_update
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.rollouts.dynamic_sampling import Admission


def of_grpo(settings: GRPOSettings, policy: Policy, mesh: Mesh, answer_length: int) -> RunPrograms:
  """Returns the programs of GRPO and its kin.

  Args:
    settings: the method's.
    policy: the model, without parameters, and any tokeniser whose vocabulary fits.
    mesh: of the learner and the engine.
    answer_length: tokens of each answer in the counts of work.
  """
  objective, division = settings.objective, settings.division
  estimator = Estimator(settings.advantage, settings.advantage_options)
  count = settings.learner.updates_per_step
  learner = PolicyLearner(
    policy.model, objective, settings.optimizer, mesh, division, max_skipped_updates=1, seed=0, abstract=True
  )
  params, prompts = learner.state.params, division.prompts_per_update
  batch = widest_batch(settings.rollout, count=prompts, per_token=estimator.per_token)
  forward = forward_pass(
    settings.rollout,
    policy.model,
    prompts=prompts,
    answer_length=answer_length,
    parts=micro_batches(learner.scorer, batch, answer_length),
  )
  arrays = {"policy": params, "optimizer": learner.state.opt_state}
  # If advantages or rewards need old logprobs, all parts of a step are scored. Otherwise the first part is not: its
  # update is on-policy and computes them itself.
  scored = count if settings.needs_old(estimator) else count - 1
  programs = {}
  if scored:
    programs["old_logprobs"] = scoring(learner.scorer, params, batch, mesh, calls=scored, forward=forward, of="policy")
  if settings.needs_reference(estimator):
    arrays["reference"] = learner.scorer.freeze_program.eval_shape(params)
    programs["reference_logprobs"] = scoring(
      learner.scorer, arrays["reference"], batch, mesh, calls=count, forward=forward, of="reference"
    )
    batch = dataclasses.replace(batch, reference_logprobs=batch.sampler_logprobs)
  admission = settings.dynamic_sampling.admission if settings.dynamic_sampling.enabled else None
  batches = settings.dynamic_sampling.batch_factor if admission == Admission.BATCH else 1
  drawing = of_rollout(
    settings.rollout,
    policy,
    learner,
    mesh,
    prompts=batches * settings.rollout.groups,
    answer_length=answer_length,
    carries=admission == Admission.CARRY,
  )
  programs |= updates(learner, batch, count=count, forward=forward)
  return RunPrograms(programs | drawing.programs, arrays | drawing.arrays)


def of_ppo(
  settings: PPOSettings, policy: Policy, mesh: Mesh, devices: Sequence[jax.Device], answer_length: int
) -> RunPrograms:
  """Returns the programs of PPO, whose value and reward model have the policy's size.

  Args:
    settings: the method's.
    policy: the model, without parameters, and any tokeniser whose vocabulary fits.
    mesh: of the policy's learner and the engine.
    devices: those on which the other models have their meshes.
    answer_length: tokens of each answer in the counts of work.
  """
  objective, division = settings.objective, settings.division
  others = ("reference", "reward", "value")
  reference_mesh, reward_mesh, value_mesh = (settings.mesh_of(name, devices) for name in others)
  scalar = dataclasses.replace(policy.model, scalar_head=True)
  _, scalar_params = abstract_transformer(scalar)
  learner = PolicyLearner(
    policy.model,
    objective,
    settings.optimizer,
    mesh,
    division,
    seed=0,
    text=_text(settings, mesh),
    max_skipped_updates=1,
    abstract=True,
  )
  value = ValueLearner(
    scalar,
    settings.value.objective,
    settings.value.optimizer,
    value_mesh,
    division,
    params=scalar_params,
    max_skipped_updates=1,
    abstract=True,
  )
  reference = logprob_scorer(policy.model, objective, reference_mesh, division)

  params, prompts = learner.state.params, division.prompts_per_update
  arrays = {
    "policy": params,
    "optimizer": learner.state.opt_state,
    "reference": reference.freeze_program.eval_shape(params),
    "value": value.state.params,
    "value_optimizer": value.state.opt_state,
  }
  batch = widest_batch(settings.rollout, count=prompts, per_token=True)
  numbers = batch.sampler_logprobs
  value_batch = ValueBatch(
    batch.prompts, batch.prompt_lengths, batch.answers, batch.mask, old_values=numbers, returns=numbers
  )
  (value_update,) = value.scorer.split(value_batch)
  micro = micro_batches(learner.scorer, batch, answer_length)
  forward, value_forward = (
    forward_pass(settings.rollout, model, prompts=prompts, answer_length=answer_length, parts=micro)
    for model in (policy.model, scalar)
  )
  parts, count = settings.learner.minibatches, settings.learner.epochs * settings.learner.minibatches
  programs = {
    "old_logprobs": scoring(learner.scorer, params, batch, mesh, calls=parts, forward=forward, of="policy"),
    "reference_logprobs": scoring(
      reference, arrays["reference"], batch, reference_mesh, calls=parts, forward=forward, of="reference"
    ),
    "values": scoring(
      value.scorer, value.state.params, batch, value_mesh, calls=parts, forward=value_forward, of="value"
    ),
    "value_update": Program(
      value.update,
      (value.state, shapes(value.pack(value_update))),
      value_mesh,
      count,
      as_update(value_forward),
      ("value", "value_optimizer"),
    ),
  }
  if objective.kl_coefficient:
    batch = dataclasses.replace(batch, reference_logprobs=numbers)
  programs |= updates(learner, batch, count=count, forward=forward)
  if settings.average.decay:
    arrays["average"] = params
    average = make_average(settings.average.decay, learner.shardings.params)
    programs["average"] = Program(
      average, (params, params), mesh, 1, Copy(3 * bytes_per_device(params)), ("policy", "average")
    )
  if settings.reward_model:
    reward = ModelReward(scalar, scalar_params, mesh=reward_mesh, abstract=True)
    arrays["reward"] = reward.params
    programs["reward"] = rewarding(
      settings.rollout,
      reward,
      answers=settings.rollout.groups * settings.rollout.group_size,
      answer_length=answer_length,
    )
  drawing = of_rollout(
    settings.rollout,
    policy,
    learner,
    mesh,
    prompts=settings.rollout.groups,
    answer_length=answer_length,
    carries=False,
  )
  return RunPrograms(programs | drawing.programs, arrays | drawing.arrays)


def _text(settings: PPOSettings, mesh: Mesh) -> Text | None:
  """Returns PPO-ptx's text with full rows; None if its coefficient is 0."""
  if not settings.ptx.coefficient:
    return None
  draws = np.zeros((settings.ptx.rows,), np.int32)
  tokens = np.zeros((settings.ptx.rows, settings.ptx.demonstrations.row_length), np.int32)
  batch = SupervisedBatch(tokens, tokens > 0, tokens, tokens, tokens.astype(np.float32), draws)
  shards = batch_shards(mesh)
  parts = settings.ptx.micro_batches(shards, settings.division.tokens(shards))
  return Text(settings.ptx.coefficient, lambda version: batch, parts)
