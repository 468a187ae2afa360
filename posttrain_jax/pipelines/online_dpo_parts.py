"""Puts the parts of online DPO together, finding out first whether config and data are fit for it."""

import contextlib
import dataclasses
from collections.abc import Callable

import ml_collections
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import (
  check_answer_style,
  judge_by_model,
  load_reward_model,
  make_judge,
  make_workers,
)
from posttrain_jax.assembly.model import Policy, load_policy, save_description
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.assembly.prompts import load_prompts
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.learner import preference
from posttrain_jax.learner.batch_learner import BatchLearner, check_division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.preference import PreferenceObjective
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.pipelines import offline, sft
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least, build
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError, Judge

_LEAST = {
  "steps": 0,
  "rollout.groups": 1,
  "rollout.group_size": 2,
  "online.refresh_every": 0,
  "learner.updates_per_step": 1,
  "learner.max_skipped_updates": 1,
  "eval.every": 0,
  "checkpoint.every": 1,
  "checkpoint.keep": 1,
}


@dataclasses.dataclass(frozen=True)
class Parts:
  """What the loop runs on.

  Attributes:
    directory: the open workdir.
    policy: model and tokeniser; `params` are those that training started from.
    objective: the loss on pairs.
    learner: holds the train state.
    pairs_per_update: N, pairs of one optimiser update.
    stream: the prompts.
    engine: draws the answers.
    judge: fills in rewards.
    evaluator: evaluates on held-out sets.
    preemption: whether SIGTERM arrived.
    mesh: where everything is.
  """

  directory: Workdir
  policy: Policy
  objective: PreferenceObjective
  learner: BatchLearner
  pairs_per_update: int
  stream: PromptStream
  engine: Engine
  judge: Judge
  evaluator: Evaluator
  preemption: Preemption
  mesh: Mesh
  _handover: Callable[[nnx.State], nnx.State]

  def hand_over(self) -> None:
    """Gives the learner's parameters, and their version, to the engine."""
    self.engine.load(self._handover(self.learner.state.params), self.learner.version)


def assemble(config: ml_collections.ConfigDict, workdir: str, stack: contextlib.ExitStack) -> Parts:
  """Builds all parts; what must be closed is left to `stack`.

  Raises:
    InputError: bad configuration or input, before a directory is made or anything is compiled.
    Preempted: during the warm-up, after a checkpoint of it.
  """
  rollout, settings = config.rollout, config.learner
  at_least(config, _LEAST)
  offline.check_best(config, [*config.eval.sets])
  objective = build(PreferenceObjective, config.objective, "objective")
  if objective.unpaired:
    raise InputError(f"objective.loss: {objective.loss} learns from single answers, expected one that takes pairs")
  optimizer = build(OptimizerConfig, config.optimizer, "optimizer")
  policy, mesh = load_policy(config.model), make_mesh(config.mesh)
  pairs_per_update, rest = divmod(rollout.groups, settings.updates_per_step)
  if rest:
    raise InputError(
      f"learner.updates_per_step: {settings.updates_per_step} does not divide rollout.groups = {rollout.groups}"
    )
  check_division(mesh, batch_size=pairs_per_update, micro_batches=settings.micro_batches)
  prompts, digests = load_prompts(
    config.prompts, policy.tokenizer, max_prompt_length=rollout.max_prompt_length, where="prompts"
  )
  stop_ids = policy.tokenizer.stop_ids
  engine = Engine(
    policy.model,
    build(SamplingConfig, rollout.sampling, "rollout.sampling", stop_ids=stop_ids),
    seed=stream_seed(config.seed, Stream.ROLLOUT),
    slots=rollout.slots,
    max_prompt_length=max(len(prompt.tokens) for prompt in prompts),
    max_new_tokens=rollout.max_new_tokens,
    share=rollout.group_size,
    mesh=mesh,
  )
  stream = PromptStream(prompts, stream_seed(config.seed, Stream.PROMPTS))
  workers = stack.enter_context(make_workers(config.rewards))
  verify = judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
  if config.online.reward_model:
    scorer, found = load_reward_model(config.online.reward_model, policy.tokenizer, "online.reward_model")
    judge, digests = judge_by_model(verify, scorer.score_groups), digests | found
  check_answer_style(config)
  evaluator = Evaluator(config.eval, policy, verify, seed=config.seed, mesh=mesh)
  digests |= evaluator.digests | policy_digests(config.model.path, policy.tokenizer)
  warmup = sft.prepare_warm_up(config, policy, mesh)
  digests |= {"warmup": warmup.digests["demonstrations"]} if warmup is not None else {}

  directory = stack.enter_context(Workdir.open(workdir, config, digests))
  preemption = stack.enter_context(Preemption())
  policy = sft.warm_up(config, policy, mesh, warmup, directory.path, evaluator, preemption)
  save_description(policy, directory.path)
  graph, _ = abstract_transformer(policy.model)
  learner = BatchLearner(
    policy.model,
    preference.make_loss(graph, objective, shards=batch_shards(mesh)),
    preference.total_pairs,
    optimizer,
    mesh,
    micro_batches=settings.micro_batches,
    max_skipped_updates=settings.max_skipped_updates,
    seed=stream_seed(config.seed, Stream.PARAMS),
    params=policy.params,
  )
  abstract = abstract_like(learner.state, learner.shardings)
  hand_over = make_handover(
    abstract.params, num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=mesh
  )
  return Parts(
    directory=directory,
    policy=policy,
    objective=objective,
    learner=learner,
    pairs_per_update=pairs_per_update,
    stream=stream,
    engine=engine,
    judge=judge,
    evaluator=evaluator,
    preemption=preemption,
    mesh=mesh,
    _handover=hand_over,
  )
