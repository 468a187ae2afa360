"""Lists the programs that a run of GRPO, PPO or DPO executes, with abstract arguments.

The programs come from the same learners, scorers and engine that the run makes. On a mesh of devices that do not exist
these are made without arrays. Batches are as wide as the config allows; a run's batches may be narrower, depending on
its data. The supervised warm-up and the evaluations are left out; their engines differ from the rollout's in size only.
`policy_programs` has the parts that GRPO and PPO share.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from posttrain_jax.assembly.learner_settings import learner_settings
from posttrain_jax.assembly.model import Policy
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison, with_mismatched
from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.learner.batch_learner import check_division as check_batch_division
from posttrain_jax.learner.ema import make_average
from posttrain_jax.learner.mixture import Text
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.policy_learner import PolicyLearner, check_division
from posttrain_jax.learner.preference import PreferenceObjective, ReferencedBatch
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.learner.value import ValueBatch, ValueObjective
from posttrain_jax.learner.value_learner import ValueLearner
from posttrain_jax.models import flops
from posttrain_jax.models.buckets import bucket, rows_per_batch
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.performance.compile.policy_programs import forward_flops, sampling, scoring, updates, widest_batch
from posttrain_jax.performance.compile.program import Program, RunPrograms, shapes
from posttrain_jax.pipelines import dpo, offline
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.ppo_parts import mesh_of
from posttrain_jax.pipelines.reference_logprobs import logprob_program
from posttrain_jax.rewards.model_reward import ModelReward, score_rows
from posttrain_jax.rollouts.admission import Admission
from posttrain_jax.runs.settings import build
from posttrain_jax.types import InputError


def programs_of_run(config: ml_collections.ConfigDict, policy: Policy, devices: Sequence[jax.Device]) -> RunPrograms:
  """Returns the programs of a run.

  Args:
    config: of a GRPO variant, PPO or DPO; its fields tell which.
    policy: the model without parameters, and any tokeniser whose vocabulary fits.
    devices: those of this machine, or of `topology.devices`.

  Raises:
    InputError: if the config is one of another method, or does not fit its mesh.
  """
  if "online" in config or "objective" not in config or not ("preferences" in config or "rollout" in config):
    raise InputError("compile: the config is none of GRPO and its kin, PPO or DPO on given pairs; expected one of them")
  mesh = make_mesh(config.mesh, devices)
  if "preferences" in config:
    return _of_dpo(config, policy, mesh)
  return _of_ppo(config, policy, mesh, devices) if "value" in config else _of_grpo(config, policy, mesh)


def _of_grpo(config: ml_collections.ConfigDict, policy: Policy, mesh: Mesh) -> RunPrograms:
  objective, optimizer, division = learner_settings(config, updates="updates_per_step")
  check_division(mesh, **division)
  estimator, count = Estimator(config.advantage, config.advantage_options), config.learner.updates_per_step
  learner = PolicyLearner(
    policy.model, objective, optimizer, mesh, **division, max_skipped_updates=1, seed=0, abstract=True
  )
  params, prompts = learner.state.params, division["prompts_per_update"]
  batch = widest_batch(config, count=prompts, per_token=estimator.per_token)
  forward = forward_flops(config, policy.model, prompts=prompts)
  arrays = {"policy": params, "optimizer": learner.state.opt_state}
  kl_in_reward = config.reference.kl_in_reward
  # If advantages or rewards need old logprobs, all parts of a step are scored. Otherwise the first part is not: its
  # update is on-policy and computes them itself.
  scored = count if "old_logprobs" in estimator.inputs or kl_in_reward else count - 1
  programs = {}
  if scored:
    programs["old_logprobs"] = scoring(learner.scorer, params, batch, mesh, calls=scored, forward=forward, of="policy")
  if objective.kl_coefficient or kl_in_reward or "reference_logprobs" in estimator.inputs:
    arrays["reference"] = learner.scorer.freeze_program.eval_shape(params)
    programs["reference_logprobs"] = scoring(
      learner.scorer, arrays["reference"], batch, mesh, calls=count, forward=forward, of="reference"
    )
    batch = dataclasses.replace(batch, reference_logprobs=batch.sampler_logprobs)
  carries = config.dynamic_sampling.enabled and config.dynamic_sampling.admission == Admission.CARRY
  drawing = sampling(config, policy, learner, mesh, carries=carries)
  programs |= updates(learner, batch, count=count, forward=forward)
  return RunPrograms(programs | drawing.programs, arrays | drawing.arrays)


def _of_ppo(
  config: ml_collections.ConfigDict, policy: Policy, mesh: Mesh, devices: Sequence[jax.Device]
) -> RunPrograms:
  objective, optimizer, division = learner_settings(config, updates="minibatches")
  others = ("reference", "reward", "value")
  reference_mesh, reward_mesh, value_mesh = (mesh_of(config, name, devices) for name in others)
  for each in (mesh, reference_mesh, value_mesh):
    check_division(each, **division)
  scalar = dataclasses.replace(policy.model, scalar_head=True)  # value and reward model: of the policy's size
  _, scalar_params = abstract_transformer(scalar)
  common = dict(**division, max_skipped_updates=1, abstract=True)
  learner = PolicyLearner(policy.model, objective, optimizer, mesh, seed=0, text=_text(config), **common)
  value_objective = build(ValueObjective, config.value.objective, "value.objective")
  value_optimizer = build(OptimizerConfig, config.value.optimizer, "value.optimizer")
  value = ValueLearner(scalar, value_objective, value_optimizer, value_mesh, params=scalar_params, **common)
  reference = logprob_scorer(policy.model, objective, reference_mesh, **division)

  params, prompts = learner.state.params, division["prompts_per_update"]
  arrays = {
    "policy": params,
    "optimizer": learner.state.opt_state,
    "reference": reference.freeze_program.eval_shape(params),
    "value": value.state.params,
    "value_optimizer": value.state.opt_state,
  }
  batch = widest_batch(config, count=prompts, per_token=True)
  numbers = batch.sampler_logprobs
  value_batch = ValueBatch(
    batch.prompts, batch.prompt_lengths, batch.answers, batch.mask, old_values=numbers, returns=numbers
  )
  forward, value_forward = (forward_flops(config, model, prompts=prompts) for model in (policy.model, scalar))
  parts, count = config.learner.minibatches, config.learner.epochs * config.learner.minibatches
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
      (value.state, shapes(value.split(value_batch))),
      value_mesh,
      count,
      3 * value_forward,
      ("value", "value_optimizer"),
    ),
  }
  correct = np.zeros(numbers.shape[:2], bool)
  programs |= updates(learner, dataclasses.replace(batch, correct=correct), count=count, forward=forward)
  if config.average.decay:
    arrays["average"] = params
    average = make_average(config.average.decay, learner.shardings.params)
    programs["average"] = Program(average, (params, params), mesh, 1, 0, ("policy", "average"))
  if config.reward_model:
    reward = ModelReward(scalar, scalar_params, mesh=reward_mesh, abstract=True)
    arrays["reward"] = reward.params
    programs["reward"] = _rewarding(config, reward)
  drawing = sampling(config, policy, learner, mesh, carries=False)
  return RunPrograms(programs | drawing.programs, arrays | drawing.arrays)


def _of_dpo(config: ml_collections.ConfigDict, policy: Policy, mesh: Mesh) -> RunPrograms:
  section, size = config.preferences, config.batch_size
  check_batch_division(mesh, batch_size=size, micro_batches=config.micro_batches)
  objective = build(PreferenceObjective, config.objective, "objective")
  offline.set_length(config, size)  # a decaying learning rate needs an end, but no program depends on its value
  learner = dpo.make_learner(config, policy, objective, mesh, abstract=True)
  pair = Comparison((0,), (np.array([0]), np.array([1])), (0, 1))
  pairs = [pair, dataclasses.replace(pair, prompt=(1,))]
  if objective.unpaired:
    pairs = with_mismatched(pairs)
  lengths = dict(prompt_length=section.max_prompt_length, answer_length=section.max_answer_length)
  comparisons = ComparisonBatches(pairs, batch_size=size, seed=0, **lengths).batch(0)
  answers = comparisons.answers.shape[1]
  forward = flops.groups(policy.model, prompts=size, answers=answers, **lengths)
  params = learner.state.params
  batch = learner.split(ReferencedBatch(comparisons, np.zeros((size, answers), np.float32)))
  reference = logprob_program(policy.model, mesh, objective.logprob_chunk)
  programs = {
    "update": Program(learner.update, (learner.state, shapes(batch)), mesh, 1, 3 * forward, ("policy", "optimizer")),
    # Called before the first step, with the parameters that training starts from.
    "reference_logprobs": Program(reference, (params, shapes(comparisons)), mesh, 0, forward, ("policy",)),
  }
  return RunPrograms(programs, {"policy": params, "optimizer": learner.state.opt_state})


def _text(config: ml_collections.ConfigDict) -> Text | None:
  """Returns PPO-ptx's text with full rows; None if its coefficient is 0."""
  if not config.ptx.coefficient:
    return None
  draws = np.zeros((config.ptx.rows,), np.int32)
  tokens = np.zeros((config.ptx.rows, config.ptx.demonstrations.row_length), np.int32)
  batch = SupervisedBatch(tokens, tokens > 0, tokens, tokens, tokens.astype(np.float32), draws)
  return Text(config.ptx.coefficient, lambda version: batch)


def _rewarding(config: ml_collections.ConfigDict, reward: ModelReward) -> Program:
  """Returns the reward model's program for texts of the greatest length."""
  rollout = config.rollout
  length = rollout.max_prompt_length + rollout.max_new_tokens
  width = bucket(length)
  rows = rows_per_batch(width, tokens_per_batch=reward.tokens_per_batch, shards=batch_shards(reward.mesh))
  given = [jax.ShapeDtypeStruct(shape, np.int32, sharding=reward.row_sharding) for shape in ((rows, width), (rows,))]
  calls = math.ceil(rollout.groups * rollout.group_size / rows)
  forward = flops.forward(reward.config, tokens=rows * length, pairs=rows * flops.causal(length), logits=0)
  return Program(score_rows, (reward.config, reward.params, *given), reward.mesh, calls, forward, ("reward",))
