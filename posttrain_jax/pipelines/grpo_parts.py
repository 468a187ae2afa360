"""Makes the parts that the GRPO/DAPO loop runs on."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from posttrain_jax.assembly.answer_summaries import of_summaries
from posttrain_jax.assembly.attack_target import AttackedModel
from posttrain_jax.assembly.hand_over import HandOver, hand_over_of_learner
from posttrain_jax.assembly.judges import ScoreGroups, judge_by_functions, judge_by_model, rejudge_by_model
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.references import has_references, reference_columns
from posttrain_jax.assembly.rollout_engine import describe_ends, rollout_engine
from posttrain_jax.assembly.teacher import load_teacher
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.evaluation.reference_logprobs import KLToReference, kl_to_start
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.pipelines import scorers
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.attacked_model import attacked_model
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.policy_batches import LogprobSources, RolloutShape, greedy_rewards
from posttrain_jax.rewards import extract
from posttrain_jax.rewards.judge import OverlongPenalty
from posttrain_jax.rewards.workers import RewardWorkers
from posttrain_jax.rollouts.collector import Collector
from posttrain_jax.rollouts.replay import Replay
from posttrain_jax.rollouts.silent_steps import SilentSteps
from posttrain_jax.runs.clock import Clock
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, InputError, Judge, Prompt


@dataclasses.dataclass(frozen=True)
class GRPOParts:
  """Holds what the loop runs on.

  Attributes:
    directory: the open workdir.
    policy: model and tokeniser; `params` are those that training started from.
    learner: holds the train state.
    engine: draws the rollouts.
    collector: fills a step with groups, newly sampled or, in a replay, stored ones.
    shape: sizes of a step's padded rollout.
    logprobs: computes the logprobs that a step needs, and holds the reference.
    estimator: turns rewards into advantages.
    greedy_rewards: rewards of the policy's greedy answers to groups' prompts; None unless the estimator takes them.
    evaluator: evaluates on held-out sets.
    clock: seconds by phase.
    preemption: whether SIGTERM arrived.
    data: words about what is trained on.
    kl_to_start: KL of sampled answers to what training started from; None if the config does not ask for it.
    find_answer: text to its final answer, as the verifier reads it.
    silent: counts the steps that trained nothing.
    target: the model that the answers attack; None if they are no attacks.
  """

  directory: Workdir
  policy: Policy
  learner: PolicyLearner
  engine: Engine
  collector: Collector | Replay
  shape: RolloutShape
  logprobs: LogprobSources
  estimator: Estimator
  greedy_rewards: Callable[[Sequence[Group]], np.ndarray] | None
  evaluator: Evaluator
  clock: Clock
  preemption: Preemption
  data: str
  kl_to_start: KLToReference | None
  find_answer: Callable[[str], str | None]
  silent: SilentSteps
  target: AttackedModel | None
  _hand_over: HandOver

  def hand_over(self) -> None:
    """Gives the learner's parameters, and their version, to the engine."""
    self.engine.load(self._hand_over(self.learner.state.params), self.learner.version)

  @property
  def out_of_budget(self) -> bool:
    """Tells whether another step's attacks could exceed the budget of questions to the target."""
    return self.target is not None and not self.target.affords(self.shape.groups * self.shape.group_size)

  def evaluate(self) -> dict[str, Any]:
    """Returns metrics of the policy that the engine has, on all sets: `eval/<set>/<metric>`."""
    metrics, judged = self.evaluator(self.engine.params, self.learner.version)
    if self.kl_to_start is not None:
      metrics |= self.kl_to_start.of_sets(judged, "kl_to_start")
    return metrics


def assemble(settings: GRPOSettings, workdir: str, stack: contextlib.ExitStack) -> GRPOParts:
  """Makes all parts; `stack` closes what must be closed.

  Raises:
    InputError: if config or input is not fit for use, before a directory is made or anything is compiled.
    Preempted: if SIGTERM arrives in the warm-up; a checkpoint of it is there.
  """
  rollout, objective, division, clock = settings.rollout, settings.objective, settings.division, Clock()
  run = MethodAssembly(settings, stack, warmup=settings.warmup, memory=settings.memory)
  estimator = Estimator(settings.advantage, settings.advantage_options)
  wanted = "teacher_logprobs" in estimator.inputs
  prompts = run.prompts(settings.prompts, max_prompt_length=rollout.max_prompt_length, evaluation=settings.eval)
  engine = rollout_engine(rollout, run.policy, prompts, run.mesh, seed=settings.seed)
  teacher, digests = load_teacher(
    settings.teacher.path, run.policy.tokenizer, wanted=wanted, advantage=estimator.name, engines=[engine]
  )
  run.digests |= digests

  workers, buffer = run.workers(settings.rewards), settings.overlong.penalty_buffer
  penalty = OverlongPenalty(rollout.max_new_tokens, buffer) if buffer else None
  by_model, overlong = bool(settings.reward_model or settings.judge), settings.overlong.filter
  verify = judge = judge_by_functions(
    settings.rewards,
    workers,
    run.policy.tokenizer,
    penalty=penalty,
    overlong_filter=overlong,
    answers=rollout.groups * rollout.group_size,
    by_model=by_model,
  )
  evaluator = run.evaluator(
    settings.eval, settings.rewards, workers, by_model=by_model, scored=by_model, rollout=rollout
  )
  run.check_references(workers, by_model=by_model)
  if settings.dynamic_sampling.enabled and not settings.replay:
    check_verdicts(prompts, workers)
  rejudge = target = None
  if settings.target is not None:
    if "greedy_rewards" in estimator.inputs:
      raise InputError(f"advantage: {estimator.name} has greedy answers judged, expected another one beside target")
    engines = [engine, *evaluator.engines]
    target = attacked_model(run, settings.target, settings.rewards, seed=settings.seed, engines=engines)
    rejudge = _timed(target.rejudge, clock)
  if by_model:
    engines = [engine, *evaluator.engines]
    score = evaluator.reward = _scorer(settings, run, engines)
    unchecked = settings.rewards.accuracy if settings.scoring.unchecked_only else ""
    judge = judge_by_model(verify, score, unchecked_by=unchecked)
    rejudge = _timed(rejudge_by_model(score, unchecked_by=unchecked), clock)
  if settings.replay:
    collector = Replay(
      settings.replay,
      steps=settings.steps,
      groups=rollout.groups,
      group_size=rollout.group_size,
      temperature=rollout.sampling.temperature,
      prompt_width=engine.sizes.max_prompt_length,
      answer_width=rollout.max_new_tokens,
      tokenizer_digest=run.policy.tokenizer.digest(),
    )
    run.digests["replay"] = collector.digest()
  else:
    collector = Collector(
      engine,
      PromptStream(prompts, stream_seed(settings.seed, Stream.PROMPTS)),
      _timed(verify, clock),
      rejudge,
      groups=rollout.groups,
      group_size=rollout.group_size,
      settings=settings.dynamic_sampling,
    )

  directory, preemption = run.open(workdir)
  learner = PolicyLearner(
    run.policy.model,
    objective,
    settings.optimizer,
    run.mesh,
    division,
    seed=stream_seed(settings.seed, Stream.PARAMS),
    params=run.policy.params,
    max_skipped_updates=settings.learner.max_skipped_updates,
    optimizer_kept=settings.memory.optimizer,
  )
  logprobs = LogprobSources(learner, old=settings.needs_old(estimator), reference_kept=settings.memory.reference)
  if settings.needs_reference(estimator):
    logprobs.refresh_reference()
  if teacher is not None:
    scorer = logprob_scorer(teacher.model, objective, run.mesh, division)
    teacher_params = scorer.freeze(teacher.params)
    logprobs.teacher = lambda batch, packings: scorer(teacher_params, batch, packings)
  drawn = f"{len(prompts)} prompts; {describe_ends(run.policy.tokenizer, engine.sampling)}"
  return GRPOParts(
    directory=directory,
    policy=run.policy,
    learner=learner,
    engine=engine,
    collector=collector,
    shape=RolloutShape(rollout.groups, rollout.group_size, engine.sizes.max_prompt_length, rollout.max_new_tokens),
    logprobs=logprobs,
    estimator=estimator,
    greedy_rewards=greedy_rewards(engine, judge) if "greedy_rewards" in estimator.inputs else None,
    evaluator=evaluator,
    clock=clock,
    preemption=preemption,
    data="stored groups" if settings.replay else drawn,
    kl_to_start=kl_to_start(
      settings.eval.kl, run.policy.model, learner.state.params, run.mesh, chunk=objective.logprob_chunk
    ),
    find_answer=functools.partial(extract.find_answer, style=settings.eval.answer_style),
    silent=SilentSteps(),
    target=target,
    _hand_over=hand_over_of_learner(learner, run.policy.model, run.mesh),
  )


def check_verdicts(prompts: Sequence[Prompt], workers: RewardWorkers) -> None:
  """Refuses dynamic sampling over prompts that no verifier can judge.

  Raises:
    InputError: if a prompt has no reference answer; the message names the first one.
  """
  columns = reference_columns(workers.functions)
  without = next((prompt for prompt in prompts if not has_references(prompt, columns)), None)
  if without is not None:
    raise InputError(
      f"{without.source}: no reference answer in {' or '.join(sorted(columns))}, expected one for dynamic sampling, "
      "which chooses groups by their accuracy; dynamic_sampling.enabled=False trains on all"
    )


def _scorer(settings: GRPOSettings, run: MethodAssembly, engines: Sequence[Engine]) -> ScoreGroups:
  """Returns the scores of the reward model, which may see summaries only."""
  if settings.judge is not None:
    score = scorers.generative_scorer(run, settings.judge, engines=engines)
  else:
    score = scorers.reward_scorer(run, settings.reward_model, "reward_model", engines=engines)
  after = settings.scoring.summary_after
  return of_summaries(score, run.policy.tokenizer, after) if after else score


def _timed(judge: Judge, clock: Clock) -> Judge:
  """Returns the judge, whose time is the step's `time/reward`."""

  def timed(groups: Sequence[Group]) -> list[Group]:
    with clock.phase("reward"):
      return judge(groups)

  return timed
