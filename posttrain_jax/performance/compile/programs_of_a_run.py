"""Lists the programs that a run of a method executes, with abstract arguments.

The methods are GRPO and its kin, PPO, DPO, SFT and reward models.
The programs come from the same learners, scorers and engine that the run makes. On a mesh of devices that do not exist
these are made without arrays. Batches are as wide as the config allows; a run's batches may be narrower, depending on
its data. The supervised warm-up and the evaluations are left out; their engines differ from the rollout's in size only.
`policy_programs` has the parts that GRPO and PPO share, `offline_programs` those of SFT and reward models.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.pair_learner import pair_learner
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison, with_mismatched
from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.learner.ema import make_average
from posttrain_jax.learner.mixture import Text
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.preference_batch import ReferencedBatch, counted_answers
from posttrain_jax.learner.scoring import logprob_scorer, plain_logprob_scorer
from posttrain_jax.learner.value import ValueBatch
from posttrain_jax.learner.value_learner import ValueLearner
from posttrain_jax.models import flops
from posttrain_jax.models.buckets import bucket, rows_per_batch
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.performance.compile.offline_programs import MANY_ROWS, of_reward_model, of_supervised
from posttrain_jax.performance.compile.policy_programs import (
  forward_pass,
  micro_batches,
  sampling,
  scoring,
  updates,
  widest_batch,
)
from posttrain_jax.performance.compile.program import Program, RunPrograms, bytes_per_device, shapes
from posttrain_jax.performance.counts import Copy, Pass, PassKind, as_update, group_pass
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.dpo import DPOSettings
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.pipelines.reward_model import RewardModelSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.rewards.model_reward import ModelReward, score_rows
from posttrain_jax.rollouts.dynamic_sampling import Admission
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

Settings = GRPOSettings | PPOSettings | DPOSettings | SFTSettings | RewardModelSettings


def parse_method(config: ml_collections.ConfigDict) -> Settings:
  """Parses the config of a method that is compiled, which its fields tell.

  Raises:
    InputError: if it is a config of another method.
  """
  if "demonstrations" in config and "rewards" in config:
    return parse(SFTSettings, config)
  if "preferences" in config and "margins" in config:
    return parse(RewardModelSettings, config)
  if "online" in config or "objective" not in config or not ("preferences" in config or "rollout" in config):
    raise InputError(
      "compile: the config is none of GRPO and its kin, PPO, DPO on given pairs, SFT or a reward model; expected one"
    )
  if "preferences" in config:
    return parse(DPOSettings, config)
  return parse(PPOSettings if "value" in config else GRPOSettings, config)


def programs_of_run(
  settings: Settings, policy: Policy, devices: Sequence[jax.Device], *, answer_length: int = 0
) -> RunPrograms:
  """Returns the programs of a run.

  Args:
    settings: the method's.
    policy: the model, without parameters, and any tokeniser whose vocabulary fits.
    devices: those of this machine, or of `topology.devices`.
    answer_length: tokens of each answer that is drawn, in the counts of work alone; 0: the cap.

  Raises:
    InputError: if the config does not fit its mesh, if `answer_length` is above the cap, or if it is given and the
      method draws no answers.
  """
  answer_length, mesh = _counted_length(settings, answer_length), make_mesh(settings.mesh, devices)
  match settings:
    case SFTSettings():
      return of_supervised(settings, policy, mesh)
    case RewardModelSettings():
      return of_reward_model(settings, policy, mesh)
    case DPOSettings():
      return _of_dpo(settings, policy, mesh)
    case PPOSettings():
      return _of_ppo(settings, policy, mesh, devices, answer_length)
    case GRPOSettings():
      return _of_grpo(settings, policy, mesh, answer_length)


def _counted_length(settings: Settings, asked: int) -> int:
  """Returns the answers' length for counts; 0 if none are drawn."""
  if not isinstance(settings, GRPOSettings | PPOSettings):
    if asked:
      raise InputError(f"--answer_length: {asked}, expected none, as the method draws no answers")
    return 0
  cap = settings.rollout.max_new_tokens
  if not 0 <= asked <= cap:
    raise InputError(f"--answer_length: {asked}, expected 1 to rollout.max_new_tokens = {cap}, or 0 for that cap")
  return asked or cap


def _of_grpo(settings: GRPOSettings, policy: Policy, mesh: Mesh, answer_length: int) -> RunPrograms:
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
  drawing = sampling(
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


def _of_ppo(
  settings: PPOSettings, policy: Policy, mesh: Mesh, devices: Sequence[jax.Device], answer_length: int
) -> RunPrograms:
  objective, division = settings.objective, settings.division
  others = ("reference", "reward", "value")
  reference_mesh, reward_mesh, value_mesh = (settings.mesh_of(name, devices) for name in others)
  scalar = dataclasses.replace(policy.model, scalar_head=True)  # value and reward model: of the policy's size
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
    programs["reward"] = _rewarding(settings, reward, answer_length)
  drawing = sampling(
    settings.rollout,
    policy,
    learner,
    mesh,
    prompts=settings.rollout.groups,
    answer_length=answer_length,
    carries=False,
  )
  return RunPrograms(programs | drawing.programs, arrays | drawing.arrays)


def _of_dpo(settings: DPOSettings, policy: Policy, mesh: Mesh) -> RunPrograms:
  section, size = settings.preferences, settings.batch_size
  objective = settings.objective
  settings = offline.with_length(settings, MANY_ROWS)
  pair = Comparison((0,), (np.array([0]), np.array([1])), (0, 1))
  pairs = [pair, dataclasses.replace(pair, prompt=(1,))]
  if objective.unpaired:
    pairs = with_mismatched(pairs)
  answers = len(pairs[0].answers)
  division = section.division(settings.tokens_per_micro_batch, comparisons=size, answers=answers)
  learner = pair_learner(
    policy,
    objective,
    settings.optimizer,
    mesh,
    division,
    seed=0,
    max_skipped_updates=1,
    abstract=True,
  )
  prompt_length, answer_length = section.max_prompt_length, section.max_answer_length
  comparisons = ComparisonBatches(
    pairs, batch_size=size, seed=0, prompt_length=prompt_length, answer_length=answer_length
  ).batch(0)
  packed = learner.pack(ReferencedBatch(comparisons, np.zeros((size, answers), np.float32)))
  forward = group_pass(
    policy.model,
    prompts=size,
    prompt_length=prompt_length,
    answers=answers,
    answer_length=answer_length,
    parts=packed.parts.rows.tokens.shape[0],
  )
  params = learner.state.params
  reference = plain_logprob_scorer(policy.model, mesh, division, chunk=objective.logprob_chunk)
  ((_, packing),) = reference.split(counted_answers(comparisons))
  programs = {
    "update": Program(
      learner.update, (learner.state, shapes(packed)), mesh, 1, as_update(forward), ("policy", "optimizer")
    ),
    # Called before the first step, with the parameters that training starts from.
    "reference_logprobs": Program(
      reference.program, (params, shapes(packing.forward())), mesh, 0, forward, ("policy",)
    ),
  }
  return RunPrograms(programs, {"policy": params, "optimizer": learner.state.opt_state})


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


def _rewarding(settings: PPOSettings, reward: ModelReward, answer_length: int) -> Program:
  """Returns the reward model's program for texts of the greatest length.

  Args:
    settings: the method's.
    reward: the reward model.
    answer_length: tokens of each answer in the counts of work.
  """
  rollout = settings.rollout
  width, length = bucket(rollout.max_prompt_length + rollout.max_new_tokens), rollout.max_prompt_length + answer_length
  rows = rows_per_batch(width, tokens_per_batch=reward.tokens_per_batch, shards=batch_shards(reward.mesh))
  given = [jax.ShapeDtypeStruct(shape, np.int32, sharding=reward.row_sharding) for shape in ((rows, width), (rows,))]
  calls = math.ceil(rollout.groups * rollout.group_size / rows)
  forward = Pass(reward.config, PassKind.FORWARD, tokens=rows * length, pairs=rows * flops.causal(length), logits=0)
  return Program(score_rows, (reward.config, reward.params, *given), reward.mesh, calls, forward, ("reward",))
