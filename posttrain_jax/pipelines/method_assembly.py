"""Assembles what all methods have in common: model, judge, evaluations, warm-up and workdir.

Every method does the same in the same order, so that bad input ends a run in a moment and loses nothing: it loads and
checks everything first (`MethodAssembly` and its own parts), then opens the workdir, and only then compiles (`open`).
Whatever was read has its sha256 in `digests`, under the name of the config field that names it. They go into
config.json, and a run does not go on over data that have changed.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import rich.console
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import RewardSettings, check_answer_style, judge_by_functions, make_workers
from posttrain_jax.assembly.model import ModelSettings, Policy, load_policy, save_description
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.assembly.prompts import PromptSettings
from posttrain_jax.assembly.references import check_references
from posttrain_jax.assembly.rollout_engine import EngineSettings
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.evaluation.evaluator import EvaluationSettings, Evaluator, SetsSettings
from posttrain_jax.evaluation.own_data import OwnPrompts
from posttrain_jax.models.config import Remat
from posttrain_jax.parallel.memory import Kept, Memory, check_host_memory
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.processes import is_main
from posttrain_jax.pipelines import warm_up_inputs
from posttrain_jax.pipelines.warm_up import WarmUp, WarmUpSettings
from posttrain_jax.rewards.extract import WINDOW
from posttrain_jax.rewards.workers import RewardWorkers
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.settings import as_config
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError, Prompt


class MethodSettings(Protocol):
  """Names what the settings of all methods have."""

  seed: int
  model: ModelSettings
  mesh: dict[str, int]


class MethodAssembly:
  """Assembles a run, part by part.

  Attributes:
    settings: the method's.
    mesh: the learner's devices and layout.
    policy: model and tokeniser; after `open` with the parameters that training starts from.
    digests: config field to the sha256 of what it names.
    warm_up: the warm-up that `open` runs.
    asked: the prompts of all sections and evaluation sets that were read so far.
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
    self.settings, self._stack = settings, stack
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
    self.asked: list[Prompt] = []

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
      InputError: if there are none, if a row is not fit for use, or if the warm-up is on the procedural task.
    """
    self.warm_up.check_own_data(section.path, f"{where}.path", self.settings.model)
    own = OwnPrompts(section, evaluation, max_prompt_length=max_prompt_length)
    found, digests = own.training(self.policy.tokenizer, where=where)
    self.digests |= digests
    if evaluation is not None:
      self._own = own
      self.tell(own.told)
    self.asked += found
    return found

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
    check_references(workers, self.asked, required=not by_model)

  def workers(self, rewards: RewardSettings) -> RewardWorkers:
    """Starts the processes that run the reward functions; they end with the run.

    Raises:
      InputError: if a function cannot be loaded.
    """
    return self._stack.enter_context(make_workers(rewards))

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
      judge_by_functions(rewards, workers, self.policy.tokenizer, by_model=by_model),
      seed=self.settings.seed,
      mesh=self.mesh,
      parts=parts,
      window=window,
      rollout=rollout,
    )
    self.digests |= self._evaluator.digests
    self.asked += [prompt for each in self._evaluator.sets.values() for prompt in each.prompts]
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
    content = as_config(settings or self.settings)
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
    inputs = warm_up_inputs.inputs(self.settings.model, self.digests, self._evaluated)
    self.policy = self.warm_up(
      directory.path, self._evaluator, preemption, optimizer_kept=self._optimizer_kept, inputs=inputs
    )
    if save_model:
      save_description(self.policy, directory.path)
