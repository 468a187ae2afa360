"""Makes the parts that PPO's loop runs on.

There are four models. The policy and the value model are trained, each with its own optimiser; the reference and a
reward model are frozen. Each has its own layout over the devices: the policy that of `mesh`, the others those of
`meshes`.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flax import nnx

from posttrain_jax.assembly.hand_over import HandOver, hand_over_of_learner
from posttrain_jax.assembly.judges import judge_by_functions, judge_by_model, place_reward_model
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.pretraining_text import load_pretraining
from posttrain_jax.assembly.rollout_engine import rollout_engine
from posttrain_jax.assembly.value_model import load_value_model, with_value_head
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.evaluation.reference_logprobs import KLToReference, frozen_copy, kl_to_start
from posttrain_jax.learner.ema import make_average
from posttrain_jax.learner.mixture import Text
from posttrain_jax.learner.packing import Packings
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.learner.value_learner import ValueLearner
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.pipelines import scorers
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.policy_batches import RolloutShape, policy_batch, stack_groups, training_mask
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.rollouts.metrics import describe_unselected
from posttrain_jax.runs.clock import Clock
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import FinishReason, Group, InputError, Judge


@dataclasses.dataclass(frozen=True)
class PPOParts:
  """Holds what the loop runs on.

  Attributes:
    settings: the config.
    directory: the open workdir.
    policy: model and tokeniser; `params` are those that training started from.
    learner: trains the policy.
    value: trains the value model.
    engine: draws the rollouts.
    stream: the prompts.
    judge: fills in rewards, by the verifier or the reward model.
    evaluator: evaluates on held-out sets.
    clock: seconds by phase.
    preemption: whether SIGTERM arrived.
    reference_logprobs: logprobs [P, G, Tc] of a batch under the reference, with its packings.
    into_average: takes the policy's parameters into their average; None if none is kept.
    kl_to_start: KL of sampled answers to what training started from; None if the config does not ask for it.
  """

  settings: PPOSettings
  directory: Workdir
  policy: Policy
  learner: PolicyLearner
  value: ValueLearner
  engine: Engine
  stream: PromptStream
  judge: Judge
  evaluator: Evaluator
  clock: Clock
  preemption: Preemption
  reference_logprobs: Callable[[PolicyBatch, Packings], np.ndarray]
  into_average: Callable[[nnx.State, nnx.State], nnx.State] | None
  kl_to_start: KLToReference | None
  _hand_over: HandOver

  def hand_over(self) -> None:
    """Gives the policy's parameters, and their version, to the engine."""
    self.engine.load(self._hand_over(self.learner.state.params), self.learner.version)

  def start_average(self) -> nnx.State | None:
    """Returns the average before the first step: the policy, or None without an average."""
    return None if self.into_average is None else frozen_copy(self.learner.state.params)

  def describe(self, groups: Sequence[Group]) -> dict[str, float]:
    """Returns metrics of what a step sampled."""
    found = describe_unselected(groups, self.engine.take_stats(), version=self.engine.version)
    valid = np.concatenate([group.valid for group in groups])
    truncated = np.concatenate([group.truncated for group in groups])
    return found | {"no_end/share": float(truncated[valid].mean()) if valid.any() else math.nan}

  def batch(self, groups: Sequence[Group]) -> tuple[PolicyBatch, np.ndarray]:
    """Returns a step's answers for the learners, without advantages, and their scores, float32 [P, G]."""
    engine = self.engine
    sizes = engine.sizes
    shape = RolloutShape(len(groups), len(groups[0].answers), sizes.max_prompt_length, sizes.max_new_tokens)
    rollout = stack_groups(groups, shape)
    batch = policy_batch(rollout, training_mask(rollout, overlong_filter=False))
    scores = self.settings.no_end.apply(rollout.rewards, rollout.finish_reasons == FinishReason.LENGTH)
    return batch, scores

  def evaluate(self, average: nnx.State | None) -> dict[str, Any]:
    """Evaluates the engine's policy, and the average if the config asks for it."""
    metrics, judged = self.evaluator(self.engine.params, self.learner.version)
    if self.kl_to_start is not None:
      metrics |= self.kl_to_start.of_sets(judged, "kl_to_start")
    if average is not None and self.settings.average.evaluate:
      for name, value in self.evaluator(self._hand_over(average), self.learner.version)[0].items():
        _, of, metric = name.split("/", 2)
        metrics[f"eval/{of}_average/{metric}"] = value
    return metrics


def assemble(settings: PPOSettings, workdir: str, stack: contextlib.ExitStack) -> PPOParts:
  """Makes all parts; `stack` closes what must be closed.

  Raises:
    InputError: if config or input is not fit for use, before a directory is made or anything is compiled.
    Preempted: if SIGTERM arrives in the warm-up; a checkpoint of it is there.
  """
  rollout, division, objective = settings.rollout, settings.division, settings.objective
  run = MethodAssembly(settings, stack, warmup=settings.warmup, memory=settings.memory)
  reference_mesh, reward_mesh, value_mesh = map(settings.mesh_of, ("reference", "reward", "value"))
  prompts = run.prompts(settings.prompts, max_prompt_length=rollout.max_prompt_length, evaluation=settings.eval)
  text = _load_text(settings, run)
  engine = rollout_engine(rollout, run.policy, prompts, run.mesh, seed=settings.seed)
  workers, by_model, answers = run.workers(settings.rewards), bool(settings.reward_model), _answers(settings)
  verify = judge = judge_by_functions(
    settings.rewards, workers, run.policy.tokenizer, answers=answers, by_model=by_model
  )
  evaluator = run.evaluator(
    settings.eval, settings.rewards, workers, by_model=by_model, scored=by_model, rollout=rollout
  )
  run.check_references(workers, by_model=by_model)
  reward_model = None
  if by_model:
    engines = [engine, *evaluator.engines]
    reward_model = scorers.load_reward_model(run, settings.reward_model, "reward_model", engines=engines)
  value_start, digests = load_value_model(
    settings.value.path, run.policy, "value.path", reward_model=reward_model, engines=[engine]
  )
  run.digests |= digests
  if reward_model is not None:
    evaluator.reward = place_reward_model(reward_model, "reward_model", mesh=reward_mesh).score_groups
    judge = judge_by_model(verify, evaluator.reward)

  directory, preemption = run.open(workdir)
  model = run.policy.model
  max_skipped, optimizer_kept = settings.learner.max_skipped_updates, settings.memory.optimizer
  learner = PolicyLearner(
    model,
    objective,
    settings.optimizer,
    run.mesh,
    division,
    seed=stream_seed(settings.seed, Stream.PARAMS),
    params=run.policy.params,
    text=text,
    max_skipped_updates=max_skipped,
    optimizer_kept=optimizer_kept,
  )
  start = learner.state.params
  value_model, value_params = with_value_head(
    value_start, start, seed=stream_seed(settings.seed, Stream.VALUE), zero=settings.value.zero_head
  )
  value = ValueLearner(
    value_model,
    settings.value.objective,
    settings.value.optimizer,
    value_mesh,
    division,
    params=value_params,
    max_skipped_updates=max_skipped,
    optimizer_kept=optimizer_kept,
  )
  reference = logprob_scorer(model, objective, reference_mesh, division)
  reference_params = reference.freeze(start, settings.memory.reference)
  decay = settings.average.decay
  return PPOParts(
    settings=settings,
    directory=directory,
    policy=run.policy,
    learner=learner,
    value=value,
    engine=engine,
    stream=PromptStream(prompts, stream_seed(settings.seed, Stream.PROMPTS)),
    judge=judge,
    evaluator=evaluator,
    clock=Clock(),
    preemption=preemption,
    reference_logprobs=lambda batch, packings: reference(reference_params, batch, packings),
    into_average=make_average(decay, learner.shardings.params) if decay else None,
    kl_to_start=kl_to_start(settings.eval.kl, run.policy.model, start, run.mesh, chunk=objective.logprob_chunk),
    _hand_over=hand_over_of_learner(learner, model, run.mesh),
  )


def _answers(settings: PPOSettings) -> int:
  return settings.rollout.groups * settings.rollout.group_size


def _load_text(settings: PPOSettings, run: MethodAssembly) -> Text | None:
  """Loads the text of PPO-ptx; None if it has no weight."""
  section, shards = settings.ptx, batch_shards(run.mesh)
  if not section.coefficient:
    return None
  if section.rows % shards:
    raise InputError(f"ptx.rows: {section.rows} do not divide over data x fsdp = {shards} shards")
  seed = stream_seed(settings.seed, Stream.PRETRAINING)
  found, digests = load_pretraining(section, run.policy.tokenizer, batch_size=section.rows, seed=seed)
  run.digests |= digests
  run.policy.model.check_context(found.longest, "ptx, the longest text")
  return Text(section.coefficient, found.batch, section.micro_batches(shards, settings.division.tokens(shards)))
