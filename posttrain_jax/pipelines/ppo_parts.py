"""What PPO runs on, and what its loop asks of it besides training; `ppo_assembly` puts it together."""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import (
  check_answer_style,
  judge_by_model,
  load_reward_model,
  make_judge,
  make_workers,
)
from posttrain_jax.assembly.learner_settings import learner_settings
from posttrain_jax.assembly.model import Policy, load_policy, save_description
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.assembly.pretraining_text import load_pretraining
from posttrain_jax.assembly.prompts import load_prompts
from posttrain_jax.assembly.rollout_engine import rollout_engine
from posttrain_jax.assembly.value_model import load_value_model, with_value_head
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.learner.ema import make_average
from posttrain_jax.learner.mixture import Text
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.learner.value import ValueObjective
from posttrain_jax.learner.value_learner import ValueLearner
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.pipelines import offline, sft
from posttrain_jax.pipelines.policy_batches import policy_batch, stack_groups, training_mask
from posttrain_jax.pipelines.ppo_advantages import AdvantageEstimator, KLPenalty, NoEnd, Whitening
from posttrain_jax.pipelines.reference_logprobs import KLToReference, frozen_copy
from posttrain_jax.rollouts import metrics
from posttrain_jax.runs.clock import Clock
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least, build, memory
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import FinishReason, Group, InputError, Judge


@dataclasses.dataclass(frozen=True)
class Parts:
  """What the loop runs on.

  Attributes:
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
    kl: the KL charged in the reward.
    no_end: what becomes of answers without an end.
    estimator: GAE's numbers.
    whitening: what is whitened.
    minibatch_seed: of the order of minibatches.
    reference_logprobs: logprobs [P, G, Tc] of a batch under the reference.
    into_average: takes the policy's parameters into their average; None where none is kept.
    evaluates_average: whether the average is evaluated too.
    kl_to_start: KL of sampled answers to what training started from; None where nobody asks.
  """

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
  kl: KLPenalty
  no_end: NoEnd
  estimator: AdvantageEstimator
  whitening: Whitening
  minibatch_seed: int
  reference_logprobs: Callable[[PolicyBatch], np.ndarray]
  into_average: Callable[[nnx.State, nnx.State], nnx.State] | None
  evaluates_average: bool
  kl_to_start: KLToReference | None
  _handover: Callable[[nnx.State], nnx.State]

  def hand_over(self) -> None:
    """Gives the policy's parameters, and their version, to the engine."""
    self.engine.load(self._handover(self.learner.state.params), self.learner.version)

  def start_average(self) -> nnx.State | None:
    """The average before the first step: the policy as it came; None where none is kept."""
    return None if self.into_average is None else frozen_copy(self.learner.state.params)

  def describe(self, groups: Sequence[Group]) -> dict[str, float]:
    """Metrics of what a step sampled."""
    judged = [(group, "trained") for group in groups]
    stats, version = self.engine.take_stats(), self.engine.version
    found = metrics.describe(groups, judged, collections.Counter(), stats, version=version)
    valid = np.concatenate([group.valid for group in groups])
    truncated = np.concatenate([group.truncated for group in groups])
    # No group is chosen over another, so there is nothing to say of the choice.
    chosen = ("sampling/dropped", "sampling/carried", "sampling/surplus", "sampling/informative")
    found = {name: value for name, value in found.items() if not name.startswith(chosen)}
    return found | {"no_end/share": float(truncated[valid].mean()) if valid.any() else math.nan}

  def batch(self, groups: Sequence[Group]) -> tuple[PolicyBatch, np.ndarray]:
    """A step's answers for the learners, without advantages, and their scores, float32 [P, G]."""
    rollout = stack_groups(
      groups,
      count=len(groups),
      group_size=len(groups[0].answers),
      prompt_width=self.engine.max_prompt_length,
      answer_width=self.engine.max_new_tokens,
    )
    mask = training_mask(rollout, overlong_filter=False)
    scores = self.no_end.apply(rollout.rewards, rollout.finish_reasons == FinishReason.LENGTH)
    return policy_batch(rollout, np.zeros(mask.shape, np.float32), mask), scores

  def evaluate(self, average: nnx.State | None) -> dict[str, Any]:
    """Evaluates the policy that the engine has, and the average where that is asked for: `eval/<set>/<metric>`."""
    metrics, judged = self.evaluator(self.engine.params, self.learner.version)
    if self.kl_to_start is not None:
      metrics |= self.kl_to_start.of_sets(judged, "kl_to_start")
    if average is not None and self.evaluates_average:
      for name, value in self.evaluator(self._handover(average), self.learner.version)[0].items():
        _, of, metric = name.split("/", 2)
        metrics[f"eval/{of}_average/{metric}"] = value
    return metrics


_LEAST = {
  "steps": 0,
  "rollout.groups": 1,
  "rollout.group_size": 1,
  "learner.epochs": 1,
  "learner.minibatches": 1,
  "learner.micro_batches": 1,
  "learner.max_skipped_updates": 1,
  "value.pretraining_steps": 0,
  "ptx.rows": 1,
  "eval.every": 0,
  "checkpoint.every": 1,
  "checkpoint.keep": 1,
  "logging.rollouts_every": 1,
}


def assemble(config: ml_collections.ConfigDict, workdir: str, stack: contextlib.ExitStack) -> Parts:
  """Builds all parts; what must be closed is left to `stack`.

  Raises:
    InputError: bad configuration or input, before a directory is made or anything is compiled.
    Preempted: during the warm-up, after a checkpoint of it.
  """
  rollout, clock = config.rollout, Clock()
  _check(config)
  settings = dict(
    kl=build(KLPenalty, config.kl, "kl"),
    no_end=build(NoEnd, config.no_end, "no_end"),
    estimator=build(AdvantageEstimator, config.gae, "gae"),
    whitening=build(Whitening, config.whiten, "whiten"),
  )
  objective, optimizer, division = learner_settings(config, updates="minibatches")
  value_objective = build(ValueObjective, config.value.objective, "value.objective")
  value_optimizer = build(OptimizerConfig, config.value.optimizer, "value.optimizer")

  mesh = make_mesh(config.mesh)
  kept = memory(config, mesh)
  reference_mesh, reward_mesh, value_mesh = (mesh_of(config, name) for name in ("reference", "reward", "value"))
  for each in (mesh, reference_mesh, value_mesh):
    division.check(each)
  policy = load_policy(config.model)
  prompts, digests = load_prompts(
    config.prompts, policy.tokenizer, max_prompt_length=rollout.max_prompt_length, where="prompts"
  )
  text, found = _load_text(config, policy, mesh)
  digests |= found
  value_start, found = load_value_model(config.value.path or config.reward_model, policy, "value.path")
  digests |= found
  engine = rollout_engine(config, policy, prompts, mesh)
  workers = stack.enter_context(make_workers(config.rewards))
  verify = judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
  scores = None
  if config.reward_model:
    scorer, found = load_reward_model(config.reward_model, policy.tokenizer, "reward_model", mesh=reward_mesh)
    scores, digests = scorer.score_groups, digests | found
    judge = judge_by_model(verify, scores)
  check_answer_style(config)
  evaluator = Evaluator(config.eval, policy, verify, seed=config.seed, mesh=mesh, reward=scores)
  warmup = sft.prepare_warm_up(config, policy, mesh)
  digests |= warmup.digests if warmup is not None else {}
  digests |= evaluator.digests | policy_digests(config.model.path, policy.tokenizer)

  directory = stack.enter_context(Workdir.open(workdir, config, digests))
  preemption = stack.enter_context(Preemption())
  policy = sft.warm_up(config, policy, mesh, warmup, directory.path, evaluator, preemption, kept.optimizer)
  save_description(policy, directory.path)
  common = dict(max_skipped_updates=config.learner.max_skipped_updates, optimizer_kept=kept.optimizer)
  seed = stream_seed(config.seed, Stream.PARAMS)
  learner = PolicyLearner(
    policy.model, objective, optimizer, mesh, division, seed=seed, params=policy.params, text=text, **common
  )
  start = learner.state.params
  value_model, value_params = with_value_head(
    value_start, start, seed=stream_seed(config.seed, Stream.VALUE), zero=config.value.zero_head
  )
  value = ValueLearner(
    value_model, value_objective, value_optimizer, value_mesh, division, params=value_params, **common
  )
  reference = logprob_scorer(policy.model, objective, reference_mesh, division)
  reference_params = reference.freeze(start, kept.reference)
  kl_to_start = None
  if config.eval.kl:
    kl_to_start = KLToReference(policy.model, frozen_copy(start), mesh, chunk=objective.logprob_chunk)
  abstract = abstract_like(learner.state, learner.shardings).params
  handover = make_handover(abstract, num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=mesh)
  average = config.average
  return Parts(
    directory=directory,
    policy=policy,
    learner=learner,
    value=value,
    engine=engine,
    stream=PromptStream(prompts, stream_seed(config.seed, Stream.PROMPTS)),
    judge=judge,
    evaluator=evaluator,
    clock=clock,
    preemption=preemption,
    minibatch_seed=stream_seed(config.seed, Stream.MINIBATCHES),
    reference_logprobs=lambda batch: reference(reference_params, batch),
    into_average=make_average(average.decay, learner.shardings.params) if average.decay else None,
    evaluates_average=average.evaluate,
    kl_to_start=kl_to_start,
    _handover=handover,
    **settings,
  )


def _check(config: ml_collections.ConfigDict) -> None:
  at_least(config, _LEAST)
  average = config.average
  if not 0 <= average.decay < 1:
    raise InputError(f"average.decay: {average.decay}, expected 0 (none) to below 1")
  if config.ptx.coefficient < 0:
    raise InputError(f"ptx.coefficient: {config.ptx.coefficient}, expected 0 (off) or more")
  of_average = [f"{name}_average" for name in config.eval.sets] if average.decay and average.evaluate else []
  offline.check_best(config, [*config.eval.sets, *of_average])


def mesh_of(config: ml_collections.ConfigDict, name: str, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """The layout of one of the models beside the policy; sizes of 0 throughout are the policy's.

  Args:
    config: `mesh` and `meshes`.
    name: reference, reward or value.
    devices: the devices to use, all by default.
  """
  sizes = config.meshes[name]
  if not any(sizes.values()):
    return make_mesh(config.mesh, devices)
  try:
    return make_mesh({axis: size or 1 for axis, size in sizes.items()}, devices)
  except InputError as error:
    raise InputError(f"meshes.{name}: {error}") from None


def _load_text(config: ml_collections.ConfigDict, policy: Policy, mesh: Mesh) -> tuple[Text | None, Mapping[str, str]]:
  """The text of PPO-ptx with the digest of what it was read from; None where it has no weight."""
  section, parts = config.ptx, config.learner.micro_batches
  if not section.coefficient:
    return None, {}
  if section.rows % (parts * batch_shards(mesh)):
    raise InputError(
      f"ptx.rows: {section.rows} do not divide over learner.micro_batches={parts} x data x fsdp = "
      f"{batch_shards(mesh)} shards"
    )
  seed = stream_seed(config.seed, Stream.PRETRAINING)
  found, digests = load_pretraining(section, policy.tokenizer, batch_size=section.rows, seed=seed)
  return Text(section.coefficient, found.batch), digests
