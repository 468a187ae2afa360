"""Puts the parts of the GRPO/DAPO loop together, finding out first whether config and data are fit for it."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from flax import nnx

from posttrain_jax.assembly.judges import (
  OverlongFilter,
  check_answer_style,
  judge_by_model,
  load_reward_model,
  make_judge,
  make_workers,
  rejudge_by_model,
)
from posttrain_jax.assembly.learner_settings import learner_settings
from posttrain_jax.assembly.model import Policy, load_policy, save_description
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.assembly.prompts import load_prompts
from posttrain_jax.assembly.rollout_engine import rollout_engine
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.learner.policy_learner import PolicyLearner, check_division
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.processes import local_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.pipelines import sft
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.policy_batches import PolicyBatches, greedy_rewards, load_teacher, teacher_logprobs
from posttrain_jax.pipelines.reference_logprobs import KLToReference, frozen_copy
from posttrain_jax.rewards.judge import OverlongPenalty
from posttrain_jax.rollouts.collector import Collector
from posttrain_jax.rollouts.dynamic_sampling import AtCap, DynamicSamplingSettings
from posttrain_jax.rollouts.replay import Replay
from posttrain_jax.runs.clock import Clock
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least, build, convert, memory
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, InputError, Judge

_LEAST = {
  "steps": 0,
  "rollout.groups": 1,
  "rollout.group_size": 1,
  "learner.updates_per_step": 1,
  "learner.micro_batches": 1,
  "learner.rows_per_prompt": 1,
  "learner.max_skipped_updates": 1,
  "eval.every": 0,
  "checkpoint.every": 1,
  "checkpoint.keep": 1,
  "logging.rollouts_every": 1,
  "logging.groups_every": 0,
  "reference.refresh_every": 0,
}


@dataclasses.dataclass(frozen=True)
class Parts:
  """What the loop runs on.

  Attributes:
    directory: the open workdir.
    policy: model and tokeniser; `params` are those that training started from.
    learner: holds the train state.
    engine: draws the rollouts.
    collector: fills a step with groups, newly sampled or, in a replay, stored ones.
    batches: makes of them what the learner trains on.
    evaluator: evaluates on held-out sets.
    clock: seconds by phase.
    preemption: whether SIGTERM arrived.
    at_cap: what to do when a step lacks informative groups.
    kl_to_start: KL of sampled answers to what training started from; None where nobody asks.
  """

  directory: Workdir
  policy: Policy
  learner: PolicyLearner
  engine: Engine
  collector: Collector | Replay
  batches: PolicyBatches
  evaluator: Evaluator
  clock: Clock
  preemption: Preemption
  at_cap: AtCap
  kl_to_start: KLToReference | None
  _handover: Callable[[nnx.State], nnx.State]

  def hand_over(self) -> None:
    """Gives the learner's parameters, and their version, to the engine."""
    self.engine.load(self._handover(self.learner.state.params), self.learner.version)

  def evaluate(self) -> dict[str, Any]:
    """Metrics of the policy that the engine has, on all sets: `eval/<set>/<metric>`."""
    metrics, judged = self.evaluator(self.engine.params, self.learner.version)
    if self.kl_to_start is not None:
      metrics |= self.kl_to_start.of_sets(judged, "kl_to_start")
    return metrics


def assemble(config: ml_collections.ConfigDict, workdir: str, stack: contextlib.ExitStack) -> Parts:
  """Builds all parts; what must be closed is left to `stack`.

  Raises:
    InputError: bad configuration or input, before a directory is made or anything is compiled.
    Preempted: during the warm-up, after a checkpoint of it.
  """
  rollout, clock = config.rollout, Clock()
  at_least(config, _LEAST)
  if config.eval.every and config.eval.best.partition("/")[0] not in config.eval.sets:
    raise InputError(
      f"eval.best: {config.eval.best!r}, expected SET/METRIC with a set of {', '.join(config.eval.sets)}"
    )
  mesh = make_mesh(config.mesh)
  kept = memory(config, mesh)
  policy = load_policy(config.model)
  objective, optimizer, division = learner_settings(config, updates="updates_per_step")
  settings = build(DynamicSamplingSettings, config.dynamic_sampling, "dynamic_sampling")
  estimator = Estimator(config.advantage, config.advantage_options)
  if config.reference.kl_in_reward < 0:
    raise InputError(f"reference.kl_in_reward: {config.reference.kl_in_reward}, expected 0 (none) or more")
  teacher = load_teacher(config.teacher.path, policy.tokenizer, estimator)
  overlong_filter = convert(OverlongFilter, config.overlong.filter, "overlong.filter")
  check_division(mesh, **division)
  prompts, digests = load_prompts(
    config.prompts, policy.tokenizer, max_prompt_length=rollout.max_prompt_length, where="prompts"
  )
  engine = rollout_engine(config, policy, prompts, mesh)
  workers = stack.enter_context(make_workers(config.rewards))
  buffer = config.overlong.penalty_buffer
  penalty = OverlongPenalty(rollout.max_new_tokens, buffer) if buffer else None
  verify = judge = make_judge(
    workers, policy.tokenizer, accuracy=config.rewards.accuracy, penalty=penalty, overlong_filter=overlong_filter
  )
  scores = rejudge = None
  if config.reward_model:
    scorer, found = load_reward_model(config.reward_model, policy.tokenizer, "reward_model", mesh=mesh)
    scores, digests = scorer.score_groups, digests | found
    judge, rejudge = judge_by_model(verify, scores), _timed(rejudge_by_model(scores), clock)
  plain_judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
  check_answer_style(config)
  evaluator = Evaluator(config.eval, policy, plain_judge, seed=config.seed, mesh=mesh, reward=scores)
  if config.replay:
    collector = Replay(config, policy.tokenizer.digest(), prompt_width=engine.max_prompt_length)
    digests["replay"] = collector.digest()
  else:
    collector = Collector(
      engine,
      PromptStream(prompts, stream_seed(config.seed, Stream.PROMPTS)),
      _timed(verify, clock),
      rejudge,
      groups=rollout.groups,
      group_size=rollout.group_size,
      settings=settings,
    )

  warmup = sft.prepare_warm_up(config, policy, mesh)
  digests |= warmup.digests if warmup is not None else {}
  digests |= evaluator.digests | policy_digests(config.model.path, policy.tokenizer)
  if teacher is not None:
    digests["teacher"] = policy_digests(config.teacher.path, policy.tokenizer)["model"]
  directory = stack.enter_context(Workdir.open(workdir, config, digests))
  preemption = stack.enter_context(Preemption())
  policy = sft.warm_up(config, policy, mesh, warmup, directory.path, evaluator, preemption, kept.optimizer)
  save_description(policy, directory.path)
  learner = PolicyLearner(
    policy.model,
    objective,
    optimizer,
    mesh,
    seed=stream_seed(config.seed, Stream.PARAMS),
    params=policy.params,
    max_skipped_updates=config.learner.max_skipped_updates,
    optimizer_kept=kept.optimizer,
    **division,
  )
  batches = PolicyBatches(
    learner,
    estimator,
    sizes=dict(
      count=rollout.groups,
      group_size=rollout.group_size,
      prompt_width=engine.max_prompt_length,
      answer_width=rollout.max_new_tokens,
    ),
    overlong_filter=overlong_filter == OverlongFilter.LOSS,
    kl_in_reward=config.reference.kl_in_reward,
    reference_kept=kept.reference,
    teacher=None if teacher is None else teacher_logprobs(teacher, objective, mesh, **division),
    greedy=greedy_rewards(engine, judge) if "greedy_rewards" in estimator.inputs else None,
  )
  if objective.kl_coefficient or config.reference.kl_in_reward or "reference_logprobs" in estimator.inputs:
    batches.refresh_reference()
  kl_to_start = None
  if config.eval.kl:
    start = frozen_copy(learner.state.params)
    kl_to_start = KLToReference(policy.model, start, mesh, chunk=objective.logprob_chunk)
  abstract = abstract_like(learner.state, learner.shardings).params
  sampler = dict(num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=local_mesh(mesh))
  return Parts(
    directory=directory,
    policy=policy,
    learner=learner,
    engine=engine,
    collector=collector,
    batches=batches,
    evaluator=evaluator,
    clock=clock,
    preemption=preemption,
    at_cap=settings.at_cap,
    kl_to_start=kl_to_start,
    _handover=make_handover(abstract, **sampler),
  )


def _timed(judge: Judge, clock: Clock) -> Judge:
  """The judge, whose time is the step's `time/reward`."""

  def timed(groups: Sequence[Group]) -> list[Group]:
    with clock.phase("reward"):
      return judge(groups)

  return timed
