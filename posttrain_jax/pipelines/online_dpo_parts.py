"""Describes online DPO's config and makes the parts that its loop runs on."""

import contextlib
import dataclasses
from collections.abc import Mapping

from posttrain_jax.assembly.hand_over import HandOver, hand_over_of_learner
from posttrain_jax.assembly.judges import RewardSettings, judge_by_functions, judge_by_model, place_reward_model
from posttrain_jax.assembly.model import ModelSettings, Policy
from posttrain_jax.assembly.pair_learner import pair_learner
from posttrain_jax.assembly.prompts import PromptSettings
from posttrain_jax.assembly.rollout_engine import RolloutSettings, rollout_engine
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.evaluation.evaluator import Evaluator, KLEvaluation
from posttrain_jax.evaluation.reference_logprobs import KLToReference, kl_to_start
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.division import Division, division_of
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.preference import PreferenceObjective
from posttrain_jax.learner.scoring import Scorer, plain_logprob_scorer
from posttrain_jax.pipelines import offline, scorers
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.sections import CheckpointSettings, ReportSettings
from posttrain_jax.runs.settings import at_least
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError, Judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineSettings:
  """Holds the `online` section.

  Attributes:
    refresh_every: rounds between two copies of the policy to the reference; 0 to keep the policy that training starts
      from.
    reward_model: PATH_OR_NAME of a reward model that judges in place of the verifier; empty for the verifier.
  """

  refresh_every: int = at_least(0)
  reward_model: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairUpdates:
  """Holds the `learner` section.

  Attributes:
    updates_per_step: updates on a round's pairs.
    tokens_per_micro_batch: tokens that each batch shard computes at a time, prompts included; 0: chosen.
    max_skipped_updates: updates in a row that are not finite which end the run.
  """

  updates_per_step: int = at_least(1)
  tokens_per_micro_batch: int = at_least(0)
  max_skipped_updates: int = at_least(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineDPOSettings:
  """Holds the config of a run; `configs/tiny_online_dpo.py` says what its fields mean."""

  seed: int
  steps: int = at_least(0)
  model: ModelSettings
  mesh: Mapping[str, int]
  warmup: WarmUpSettings
  objective: PreferenceObjective
  online: OnlineSettings
  prompts: PromptSettings
  rewards: RewardSettings
  rollout: RolloutSettings
  learner: PairUpdates
  optimizer: OptimizerConfig
  eval: KLEvaluation
  checkpoint: CheckpointSettings
  logging: ReportSettings

  def __post_init__(self):
    """Raises InputError if fields contradict each other."""
    self.optimizer.check(updates=self.steps * self.learner.updates_per_step)
    offline.check_best(self.eval, list(self.eval.sets), epochs=False)
    if self.objective.unpaired:
      raise InputError(
        f"objective.loss: {self.objective.loss} learns from single answers, expected one that takes pairs"
      )
    if self.rollout.group_size < 2:
      raise InputError(f"rollout.group_size: {self.rollout.group_size}, expected at least 2")
    self.rollout.check_updates(self.learner.updates_per_step, "learner.updates_per_step")
    _ = self.division  # refuses a budget that is too small

  @property
  def pairs_per_update(self) -> int:
    """Returns N, the pairs of one optimiser update."""
    return self.rollout.groups // self.learner.updates_per_step

  @property
  def division(self) -> Division:
    """Returns how pairs are cut into updates and micro-batches.

    Raises:
      InputError: if a micro-batch cannot hold the longest prompt with two of the longest answers.
    """
    return division_of(
      self.learner.tokens_per_micro_batch,
      prompts=self.pairs_per_update,
      group=2,
      prompt=self.rollout.max_prompt_length,
      answer=self.rollout.max_new_tokens,
      together=True,
    )


@dataclasses.dataclass(frozen=True)
class OnlineDPOParts:
  """Holds what the loop runs on.

  Attributes:
    directory: the open workdir.
    policy: model and tokeniser; `params` are those that training started from.
    learner: holds the train state.
    scorer: computes the reference's logprobs of pairs.
    stream: the prompts.
    engine: draws the answers.
    judge: fills in rewards.
    evaluator: evaluates on held-out sets.
    kl_to_start: KL of sampled answers to what training started from; None if the config does not ask for it.
    preemption: whether SIGTERM arrived.
  """

  directory: Workdir
  policy: Policy
  learner: BatchLearner
  scorer: Scorer
  stream: PromptStream
  engine: Engine
  judge: Judge
  evaluator: Evaluator
  kl_to_start: KLToReference | None
  preemption: Preemption
  _hand_over: HandOver

  def hand_over(self) -> None:
    """Gives the learner's parameters, and their version, to the engine."""
    self.engine.load(self._hand_over(self.learner.state.params), self.learner.version)


def assemble(settings: OnlineDPOSettings, workdir: str, stack: contextlib.ExitStack) -> OnlineDPOParts:
  """Makes all parts; `stack` closes what must be closed.

  Raises:
    InputError: if config or input is not fit for use, before a directory is made or anything is compiled.
    Preempted: if SIGTERM arrives in the warm-up; a checkpoint of it is there.
  """
  run = MethodAssembly(settings, stack, warmup=settings.warmup)
  prompts = run.prompts(
    settings.prompts, max_prompt_length=settings.rollout.max_prompt_length, evaluation=settings.eval
  )
  engine = rollout_engine(settings.rollout, run.policy, prompts, run.mesh, seed=settings.seed)
  workers, by_model = run.workers(settings.rewards), bool(settings.online.reward_model)
  answers = settings.rollout.groups * settings.rollout.group_size
  verify = judge = judge_by_functions(
    settings.rewards, workers, run.policy.tokenizer, answers=answers, by_model=by_model
  )
  if by_model:
    reward_model = scorers.load_reward_model(run, settings.online.reward_model, "online.reward_model", engines=[engine])
  evaluator = run.evaluator(settings.eval, settings.rewards, workers, by_model=by_model, rollout=settings.rollout)
  run.check_references(workers, by_model=by_model)
  if by_model:
    judge = judge_by_model(verify, place_reward_model(reward_model, "online.reward_model", mesh=run.mesh).score_groups)
  directory, preemption = run.open(workdir)
  learner = pair_learner(
    run.policy,
    settings.objective,
    settings.optimizer,
    run.mesh,
    settings.division,
    seed=settings.seed,
    max_skipped_updates=settings.learner.max_skipped_updates,
  )
  return OnlineDPOParts(
    directory=directory,
    policy=run.policy,
    learner=learner,
    scorer=plain_logprob_scorer(run.policy.model, run.mesh, settings.division, chunk=settings.objective.logprob_chunk),
    stream=PromptStream(prompts, stream_seed(settings.seed, Stream.PROMPTS)),
    engine=engine,
    judge=judge,
    evaluator=evaluator,
    kl_to_start=kl_to_start(
      settings.eval.kl, run.policy.model, learner.state.params, run.mesh, chunk=settings.objective.logprob_chunk
    ),
    preemption=preemption,
    _hand_over=hand_over_of_learner(learner, run.policy.model, run.mesh),
  )
