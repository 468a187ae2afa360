"""Trains reward models on comparisons of answers: a language model with a scalar head.

The loss is Bradley-Terry on all pairs of a prompt's ranked answers, with margins by the strength of the preference
(`margins`), centering (`centering`) and a filter on strengths (`preferences.strengths`). A prompt has three answers
where people edited the better one. At every evaluation all rewards are shifted so that demonstrations average 0
(InstructGPT, 2203.02155). The Bradley-Terry loss does not see the shift, but a comparison of rewards with 0 does;
centering pins the same level more weakly. A step is one update of `pipelines.offline`.

Deviation from Llama 3 (2407.21783), which puts a prompt's answers into one row: here each answer sees the prompt and
itself, not the others.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

import ml_collections

from posttrain_jax.assembly.comparisons import ComparisonData, PreferenceSettings, load_comparisons
from posttrain_jax.assembly.demonstrations import DemonstrationSettings, encode, read_demonstrations
from posttrain_jax.assembly.model import ModelSettings, Policy, save_description
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Margins
from posttrain_jax.evaluation.answer_records import scored_records
from posttrain_jax.evaluation.calibration import pair_confidence
from posttrain_jax.evaluation.reward_evaluation import RewardEvaluation
from posttrain_jax.learner import reward_model
from posttrain_jax.learner.division import Division
from posttrain_jax.models import heads
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.offline import OfflineSettings
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.reports.end import end_run
from posttrain_jax.reports.reliability_figure import plot_reliability
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.sections import ReportSettings
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardModelSettings(OfflineSettings):
  """Holds the config of a run; `configs/tiny_reward_model.py` says what its fields mean."""

  seed: int
  tokens_per_micro_batch: int = at_least(0)
  model: ModelSettings
  mesh: Mapping[str, int]
  warmup: WarmUpSettings
  preferences: PreferenceSettings
  margins: Margins
  centering: float
  shift_to_demonstrations: bool
  demonstrations: DemonstrationSettings
  logging: ReportSettings

  def __post_init__(self):
    """Raises InputError if two fields contradict each other."""
    offline.check_best(self.eval, ["heldout"] if self.preferences.held_out else [])
    if self.shift_to_demonstrations and not self.eval.every:
      raise InputError("shift_to_demonstrations: rewards are shifted at evaluations, expected eval.every above 0")
    if self.preferences.single:
      raise InputError("preferences.form: single, expected pairs or rankings: a reward model compares answers")
    if self.centering < 0:
      raise InputError(f"centering: {self.centering}, expected 0 (none) or more")


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Trains a reward model, or goes on with a run that was stopped.

  Args:
    config: see `configs/tiny_reward_model.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/, reliability.png and report.html.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: if `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  settings = parse(RewardModelSettings, config)
  with contextlib.ExitStack() as stack:
    run = MethodAssembly(settings, stack, warmup=settings.warmup, scalar_head=True)
    run.warm_up.check_own_data(settings.preferences.path, "preferences.path", settings.model)
    data = load_comparisons(settings.preferences, run.policy.tokenizer)
    data.check_context(run.policy.model)
    run.digests |= data.digests
    batches = ComparisonBatches(
      data.train,
      batch_size=settings.batch_size,
      seed=stream_seed(settings.seed, Stream.PREFERENCES),
      pad_id=run.policy.tokenizer.pad_id or 0,
      margins=settings.margins,
    )
    division = settings.preferences.division(
      settings.tokens_per_micro_batch, comparisons=settings.batch_size, answers=batches.num_answers, read=True
    )
    settings = offline.with_length(settings, batches.num_rows)
    demonstrations: list[Sequence[int]] = []
    if settings.shift_to_demonstrations:
      rows, run.digests["demonstrations"] = read_demonstrations(settings.demonstrations)
      examples = encode(settings.demonstrations, rows, run.policy.tokenizer).examples
      demonstrations = [example.tokens for example in examples]
    directory, preemption = run.open(workdir, settings, save_model=False)
    _fit(settings, run, division, batches, data, demonstrations, directory, preemption)


def _fit(
  settings: RewardModelSettings,
  run: MethodAssembly,
  division: Division,
  batches: ComparisonBatches,
  data: ComparisonData,
  demonstrations: list[Sequence[int]],
  directory: Workdir,
  preemption: Preemption,
) -> None:
  policy, mesh, path = run.policy, run.mesh, directory.path
  model, params = dataclasses.replace(policy.model, scalar_head=True), None
  if policy.params is not None:
    model, params = heads.to_scalar_head(policy.model, policy.params, seed=stream_seed(settings.seed, Stream.HEAD))
  save_description(Policy(model, policy.tokenizer), path)
  learner = reward_model.make_learner(
    model,
    settings.optimizer,
    mesh,
    division,
    centering=settings.centering,
    max_skipped_updates=settings.max_skipped_updates,
    seed=stream_seed(settings.seed, Stream.PARAMS),
    params=params,
  )
  evaluation = RewardEvaluation(
    model, data.held_out, demonstrations, mesh, division, pad_id=policy.tokenizer.pad_id or 0
  )

  def evaluate() -> offline.Evaluated:
    metrics, learner.state = evaluation(learner.state)
    return metrics, scored_records(data.held_out, evaluation.scores, policy.tokenizer.decode)

  offline.fit(
    settings,
    learner,
    batches.batch,
    path,
    title="reward model",
    evaluate=evaluate,
    preemption=preemption,
    evaluate_first=True,
    facts=data.facts,
  )
  margins = evaluation.margins(learner.state.params)
  if margins is not None:
    title = "Reward model on held-out comparisons"
    plot_reliability(path / "reliability.png", *pair_confidence(margins), title=title)
  end_run(path, report=settings.logging.report, scores=True)
