"""Runs supervised fine-tuning on demonstrations (`pipelines.supervised`).

The best checkpoint is kept by any metric of the evaluations: accuracy of sampled answers, loss on held-out
demonstrations (`-validation/loss`), or a reward model's score of sampled answers (InstructGPT, 2203.02155).
"""

import contextlib
import dataclasses
from collections.abc import Mapping

import ml_collections
import rich.console

from posttrain_jax.assembly.demonstrations import encode, read_demonstrations
from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import ModelSettings, load_policy
from posttrain_jax.data.inspection import inspect_examples
from posttrain_jax.evaluation.evaluator import EvaluationSettings
from posttrain_jax.evaluation.own_data import follows_data, without_procedural
from posttrain_jax.parallel.memory import Memory
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.pipelines import offline, scorers, supervised
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.supervised import SupervisedSettings
from posttrain_jax.reports.end import end_run
from posttrain_jax.runs.sections import ReportSettings
from posttrain_jax.runs.settings import parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredEvaluation(EvaluationSettings):
  """Holds the `eval` section of SFT.

  Attributes:
    reward_model: PATH_OR_NAME of a reward model that also scores the answers; empty for none.
  """

  reward_model: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTSettings(SupervisedSettings):
  """Holds the config of a run; `configs/tiny_sft.py` says what its fields mean."""

  seed: int
  model: ModelSettings
  mesh: Mapping[str, int]
  memory: Memory
  rewards: RewardSettings
  eval: ScoredEvaluation
  logging: ReportSettings

  def __post_init__(self):
    """Raises InputError if `eval.best` names no set; whether there is held-out loss depends on the data."""
    if self.eval.sets:
      offline.check_best(self.eval, [*self.eval.sets, "validation"])


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Trains on demonstrations, or goes on with a run that was stopped.

  Args:
    config: see `configs/tiny_sft.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/ and report.html.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: if `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  settings = parse(SFTSettings, config)
  with contextlib.ExitStack() as stack:
    run = MethodAssembly(settings, stack, memory=settings.memory)
    path, own_share = settings.demonstrations.path, settings.eval.own_share if follows_data(settings.eval) else 0.0
    settings, data = supervised.prepare(settings, run.policy, run.mesh, settings.seed, own_share=own_share)
    run.digests |= data.digests
    otherwise = "-validation/loss" if data.validation else ""
    evaluation, told = without_procedural(settings.eval, path, otherwise=otherwise)
    settings = dataclasses.replace(settings, eval=evaluation)
    run.tell(told)
    if path and own_share and data.validation and not settings.demonstrations.held_out:
      run.tell(f"a hash of the prompt holds {own_share:.0%} of {path} out for the validation loss (eval.own_share)")
    offline.check_best(settings.eval, [*settings.eval.sets, *(["validation"] if data.validation else [])])
    workers, by_model = run.workers(settings.rewards), bool(settings.eval.reward_model)
    evaluator = run.evaluator(settings.eval, settings.rewards, workers, by_model=by_model, scored=by_model)
    run.check_references(workers, by_model=by_model)
    if by_model:
      reward_model = settings.eval.reward_model
      evaluator.reward = scorers.reward_scorer(run, reward_model, "eval.reward_model", engines=evaluator.engines)
    directory, preemption = run.open(workdir, settings)
    supervised.fit(
      settings,
      run.policy,
      run.mesh,
      data,
      directory.path,
      evaluator,
      preemption,
      seed=settings.seed,
      optimizer_kept=settings.memory.optimizer,
    )
  end_run(directory.path, report=settings.logging.report)


def inspect(config: ml_collections.ConfigDict, count: int) -> dict[str, float]:
  """Prints the first demonstrations as the model gets them, with the learned tokens in colour.

  Returns:
    What is known of all of them, as in the first record of a run's metrics.
  """
  settings = parse(SFTSettings, config)
  policy = load_policy(settings.model)
  rows, _ = read_demonstrations(settings.demonstrations)
  examples = encode(settings.demonstrations, rows[:count], policy.tokenizer).examples
  inspect_examples(examples, policy.tokenizer, rich.console.Console(), count=count)
  _, data = supervised.prepare(settings, policy, make_mesh(settings.mesh), settings.seed)
  return dict(data.facts)
