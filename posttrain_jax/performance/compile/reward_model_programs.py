"""Lists the program of a reward model that scores a run's answers, with abstract arguments.

The reward model is taken to have the policy's size.
"""

import dataclasses
import math

import jax
import numpy as np
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.rollout_engine import EngineSettings
from posttrain_jax.models import flops
from posttrain_jax.models.buckets import bucket, rows_per_batch
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.performance.compile.program import Program, RunPrograms
from posttrain_jax.performance.counts import Pass, PassKind
from posttrain_jax.rewards.model_reward import ModelReward, score_rows


def with_reward_model(
  run: RunPrograms, rollout: EngineSettings, policy: Policy, mesh: Mesh, *, answers: int, answer_length: int
) -> RunPrograms:
  """Adds a reward model to a run, which scores each group once its answers are drawn.

  So the engine keeps its caches while answers are scored.

  Args:
    run: programs that draw answers, and what else a step calls.
    rollout: the config's section.
    policy: the model, and any tokeniser whose vocabulary fits.
    mesh: of the run.
    answers: answers of a step.
    answer_length: tokens of each answer in the counts of work.
  """
  scalar = dataclasses.replace(policy.model, scalar_head=True)
  reward = ModelReward(scalar, abstract_transformer(scalar)[1], mesh=mesh, abstract=True)
  scored = dataclasses.replace(rewarding(rollout, reward, answers=answers, answer_length=answer_length), frees=())
  return RunPrograms({**run.programs, "reward": scored}, {**run.arrays, "reward": reward.params})


def rewarding(rollout: EngineSettings, reward: ModelReward, *, answers: int, answer_length: int) -> Program:
  """Returns the reward model's program for texts of the greatest length.

  Args:
    rollout: the config's section.
    reward: the reward model.
    answers: answers of a step.
    answer_length: tokens of each answer in the counts of work.
  """
  width, length = bucket(rollout.max_prompt_length + rollout.max_new_tokens), rollout.max_prompt_length + answer_length
  rows = rows_per_batch(width, tokens_per_batch=reward.tokens_per_batch, shards=batch_shards(reward.mesh))
  given = [jax.ShapeDtypeStruct(shape, np.int32, sharding=reward.row_sharding) for shape in ((rows, width), (rows,))]
  forward = Pass(reward.config, PassKind.FORWARD, tokens=rows * length, pairs=rows * flops.causal(length), logits=0)
  calls = math.ceil(answers / rows)
  return Program(score_rows, (reward.config, reward.params, *given), reward.mesh, calls, forward, ("reward",))
