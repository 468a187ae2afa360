"""Assembles what all methods have in common: model, judge, evaluations, warm-up and workdir.

Every method does the same in the same order, so that bad input ends a run in a moment and loses nothing: it loads and
checks everything first (`MethodAssembly` and its own parts), then opens the workdir, and only then compiles (`open`).
Whatever was read has its sha256 in `digests`, under the name of the config field that names it. They go into
config.json, and a run does not go on over data that have changed.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import jax
import rich.console
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.generative_judge import (
  GenerativeJudge,
  GenerativeJudgeSettings,
  current_params,
  fixed_params,
)
from posttrain_jax.assembly.judges import (
  OverlongFilter,
  RewardSettings,
  ScoreGroups,
  check_answer_style,
  make_judge,
  make_workers,
  place_reward_model,
)
from posttrain_jax.assembly.model import ModelSettings, Policy, Vocabulary, load_policy, save_description
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.assembly.prompts import PromptSettings
from posttrain_jax.assembly.readers import load_reader
from posttrain_jax.assembly.references import check_references
from posttrain_jax.assembly.rollout_engine import EngineSettings
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.evaluation.evaluator import EvaluationSettings, Evaluator, KLEvaluation, SetsSettings
from posttrain_jax.evaluation.own_data import OwnPrompts
from posttrain_jax.evaluation.reference_logprobs import KLToReference, frozen_copy
from posttrain_jax.models.config import Remat
from posttrain_jax.parallel.memory import Kept, Memory, check_host_memory
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.processes import is_main
from posttrain_jax.pipelines import warm_up_inputs
from posttrain_jax.pipelines.supervised import WarmUp, WarmUpSettings
from posttrain_jax.rewards.extract import WINDOW
from posttrain_jax.rewards.failures import FailureLimit
from posttrain_jax.rewards.judge import OverlongPenalty
from posttrain_jax.rewards.workers import RewardWorkers
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.settings import as_config
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError, Judge, Prompt


class MethodSettings(Protocol):
  """Names what the settings of all methods have."""

  seed: int
  model: ModelSettings
  mesh: dict[str, int]


class MethodAssembly:
  """Assembles a run, part by part.

  Attributes:
    mesh: the learner's devices and layout.
    policy: model and tokeniser; after `open` with the parameters that training starts from.
    digests: config field to the sha256 of what it names.
    warm_up: the warm-up that `open` runs.
  """

  def __init__(
    self,
    settings: MethodSettings,
    stack: contextlib.ExitStack,
    *,
    warmup: WarmUpSettings | None = None,
    memory: Memory | None = None,
    scalar_head: bool = False,
    symbols: Sequence[str] = SYMBOLS,
  ):
    """Loads the model, and the warm-up's demonstrations.

    Args:
      settings: the method's.
      stack: closes what is opened here.
      warmup: the config's `warmup`; None for a method without one.
      memory: the config's `memory`; None for a method without one, which keeps all on the devices.
      scalar_head: whether the model may be a reward model.
      symbols: what the tiny tokeniser knows, if the config names no model.

    Raises:
      InputError: if the mesh or the model does not fit, or if there is no such model.
    """
    self._settings, self._stack = settings, stack
    self.mesh: Mesh = make_mesh(settings.mesh)
    if memory is not None:
      memory.check(self.mesh)
    self._optimizer_kept = Kept.DEVICE if memory is None else memory.optimizer
    if settings.model.transformer.get("remat") == Remat.HOST:
      check_host_memory(self.mesh, "model.remat")
    self.policy: Policy = load_policy(settings.model, scalar_head=scalar_head, symbols=symbols)
    self.digests = policy_digests(settings.model.path, self.policy.tokenizer)
    self.warm_up = WarmUp(warmup, self.policy, self.mesh, seed=settings.seed)
    self.digests |= self.warm_up.digests
    self._evaluator: Evaluator | None = None
    self._evaluated: dict[str, Any] | None = {}
    self._own: OwnPrompts | None = None
    self._told: list[str] = []
    self._prompts: list[Prompt] = []  # of all sections so far

  def prompts(
    self,
    section: PromptSettings,
    *,
    max_prompt_length: int,
    where: str = "prompts",
    evaluation: EvaluationSettings | None = None,
  ) -> list[Prompt]:
    """Reads the prompts that a group of the config names.

    Args:
      section: the group.
      max_prompt_length: limit in tokens, of the config's field `rollout.max_prompt_length`.
      where: the group's name.
      evaluation: the config's `eval`, which may hold some prompts of a file out; None for all prompts.

    Raises:
      InputError: if there are none, if a row is not fit for use, or as `check_warm_up`.
    """
    self.check_warm_up(section.path, f"{where}.path")
    own = OwnPrompts(section, evaluation, max_prompt_length=max_prompt_length)
    found, digests = own.training(self.policy.tokenizer, where=where)
    self.digests |= digests
    if evaluation is not None:
      self._own = own
      self.tell(own.told)
    self._prompts += found
    return found

  def check_warm_up(self, path: str, where: str) -> None:
    """Refuses a warm-up on the procedural task before data of one's own.

    Only a model that reads bytes is refused: any other random one reads nothing but the procedural task.

    Args:
      path: of the data; empty for the procedural task.
      where: the config field that has the path.

    Raises:
      InputError: if it would be.
    """
    bytes_model = not self._settings.model.path and self._settings.model.vocabulary == Vocabulary.BYTES
    if path and bytes_model and self.warm_up.is_procedural:
      raise InputError(
        f"warmup: would train on the procedural task, while {where} is {path}; expected warmup.demonstrations.path "
        "(demonstrations of your own), model.path (a model that is trained already), or warmup.steps=0"
      )

  def tell(self, line: str) -> None:
    """Keeps a line for the user, who sees it once the run's directory is open."""
    self._told += [line] if line else []

  def check_references(self, workers: RewardWorkers, *, by_model: bool = False) -> None:
    """Checks the references of all prompts read so far, those of evaluation sets included.

    Args:
      workers: run the reward functions.
      by_model: whether rewards come from a reward model; then prompts need no reference.

    Raises:
      InputError: if a reference is missing, or if its verifier does not grade it right.
    """
    check_references(workers, self._prompts, required=not by_model)

  def workers(self, rewards: RewardSettings) -> RewardWorkers:
    """Starts the processes that run the reward functions; they end with the run.

    Raises:
      InputError: if a function cannot be loaded.
    """
    return self._stack.enter_context(make_workers(rewards))

  def judge(
    self,
    rewards: RewardSettings,
    workers: RewardWorkers,
    *,
    penalty: OverlongPenalty | None = None,
    overlong_filter: OverlongFilter = OverlongFilter.OFF,
    answers: int = 1,
    by_model: bool = False,
  ) -> Judge:
    """Makes the judge by reward functions; `assembly.judges.make_judge` says more.

    Args:
      rewards: the config's `rewards`.
      workers: run the functions.
      penalty: soft overlong penalty, None for none.
      overlong_filter: what truncated answers take part in.
      answers: answers of a step, by which a function that fails is judged; 1: each call by itself.
      by_model: whether a reward model judges afterwards.
    """
    return make_judge(
      workers,
      self.policy.tokenizer,
      accuracy=rewards.accuracy,
      penalty=penalty,
      overlong_filter=overlong_filter,
      timed_out=rewards.timed_out,
      failures=FailureLimit(rewards.max_failures, max(1, answers // jax.process_count())),
      by_model=by_model,
    )

  def load_reward_model(self, path: str, where: str, *, engines: Iterable[Engine]) -> Policy:
    """Loads the reward model that a config field names, on the host.

    Args:
      path: PATH_OR_NAME.
      where: the config field.
      engines: draw the answers that it scores.

    Raises:
      InputError: if it is no reward model, has another tokeniser, or has a shorter context than the answers need.
    """
    model, digests = load_reader(path, self.policy.tokenizer, where, scalar_head=True, engines=engines)
    self.digests |= digests
    return model

  def reward_scorer(self, path: str, where: str, *, engines: Iterable[Engine]) -> ScoreGroups:
    """Places a config field's reward model on the run's mesh and returns its scorer.

    Args:
      path: PATH_OR_NAME.
      where: the config field.
      engines: draw the answers that it scores.

    Raises:
      InputError: as `load_reward_model`, or if the model does not fit the mesh.
    """
    loaded = self.load_reward_model(path, where, engines=engines)
    return place_reward_model(loaded, where, mesh=self.mesh).score_groups

  def generative_scorer(self, section: GenerativeJudgeSettings, *, engines: Sequence[Engine]) -> ScoreGroups:
    """Loads a generative reward model, or takes the policy itself, and returns its scorer.

    Args:
      section: the config's `judge`.
      engines: draw the answers that it scores; the training's first.

    Raises:
      InputError: if there is no such model, if it cannot score, or if an answer could outgrow it.
    """
    if section.self_rewarding:
      judge, params = self.policy, current_params(engines)
    else:
      judge, digests = load_reader(section.path, None, "judge.path", scalar_head=False)
      self.digests |= digests
      params = fixed_params(judge, self.mesh)
    answers_in, seed = self.policy.tokenizer, self._settings.seed
    scorer = GenerativeJudge(section, judge, params, self.mesh, answers_in, seed=seed, engines=engines)
    scorer.check_prompts(self._prompts, answer_length=max(engine.sizes.max_new_tokens for engine in engines))
    return scorer.score_groups

  def evaluator(
    self,
    sets: SetsSettings,
    rewards: RewardSettings,
    workers: RewardWorkers,
    *,
    by_model: bool = False,
    scored: bool = False,
    rollout: EngineSettings | None = None,
  ) -> Evaluator:
    """Makes the evaluations on held-out sets; the warm-up is evaluated by them too.

    Args:
      sets: the config's `eval`.
      rewards: says how the verifier reads an answer; majority votes must read it alike.
      workers: run the reward functions, without what a step's answers need besides.
      by_model: whether a reward model judges afterwards.
      scored: whether a reward model will score the answers too, as `Evaluator.reward`.
      rollout: the training's, whose prefill and caches the evaluations have, too; None for an engine's own choice.

    Raises:
      InputError: if a set is empty, or if votes and verifier read answers differently.
    """
    parts = {}
    if self._own is not None:
      own, parts = self._own.sets()
      sets = dataclasses.replace(sets, sets=own)
    check_answer_style(rewards, sets.answer_style)
    window = rewards.functions[rewards.accuracy].options.get("window", WINDOW)  # votes look where the verifier looks
    self._evaluator = Evaluator(
      sets,
      self.policy,
      self.judge(rewards, workers, by_model=by_model),
      seed=self._settings.seed,
      mesh=self.mesh,
      parts=parts,
      window=window,
      rollout=rollout,
    )
    self.digests |= self._evaluator.digests
    self._prompts += [prompt for each in self._evaluator.sets.values() for prompt in each.prompts]
    self._evaluated = warm_up_inputs.evaluated_on(sets, rewards, scored=scored)
    return self._evaluator

  def require_trained_policy(self) -> None:
    """Checks that the policy is not a random one without a warm-up.

    It is for programs that train nothing but on the policy's own answers, or only measure them.

    Raises:
      InputError: if it is.
    """
    if self.policy.params is None and not self.warm_up.is_wanted:
      raise InputError("model.path: empty, and warmup has no steps; expected a model or a warm-up, not random answers")

  def kl_to_start(self, section: KLEvaluation, params: nnx.State, *, chunk: int) -> KLToReference | None:
    """Keeps a copy of what training starts from, to measure the KL to it.

    Args:
      section: the config's `eval`.
      params: the learner's parameters before its first update.
      chunk: most tokens whose logits exist at a time on a device.

    Returns:
      The measurement; None, and no copy, if the config does not ask for it.
    """
    return KLToReference(self.policy.model, frozen_copy(params), self.mesh, chunk=chunk) if section.kl else None

  def open(
    self, workdir: str, settings: MethodSettings | None = None, *, save_model: bool = True
  ) -> tuple[Workdir, Preemption]:
    """Opens the workdir and warms the policy up: `open_workdir`, then `finish`."""
    directory, preemption = self.open_workdir(workdir, settings)
    self.finish(directory, preemption, save_model=save_model)
    return directory, preemption

  def open_workdir(self, workdir: str, settings: MethodSettings | None = None) -> tuple[Workdir, Preemption]:
    """Opens the workdir, and heeds SIGTERM from here on.

    Args:
      workdir: DIR.
      settings: what config.json keeps, such as the method's settings with their number of steps; the method's settings
        by default.

    Raises:
      InputError: if DIR belongs to another run, or to this one with other settings or data.
    """
    content = as_config(settings or self._settings)
    directory = self._stack.enter_context(Workdir.open(workdir, content, self.digests))
    console = rich.console.Console(stderr=True, quiet=not is_main())
    for line in self._told:
      console.print(line, highlight=False, markup=False, soft_wrap=True)
    return directory, self._stack.enter_context(Preemption())

  def finish(self, directory: Workdir, preemption: Preemption, *, save_model: bool = True) -> None:
    """Warms the policy up, which is the first thing that compiles.

    Args:
      directory: the open workdir.
      preemption: whether SIGTERM arrived.
      save_model: whether the workdir can be loaded as a model by its path.

    Raises:
      Preempted: if SIGTERM arrives in the warm-up; a checkpoint is there.
    """
    inputs = warm_up_inputs.inputs(self._settings.model, self.digests, self._evaluated)
    self.policy = self.warm_up(
      directory.path, self._evaluator, preemption, optimizer_kept=self._optimizer_kept, inputs=inputs
    )
    if save_model:
      save_description(self.policy, directory.path)
