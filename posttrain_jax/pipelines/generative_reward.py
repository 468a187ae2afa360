"""Trains a generative reward model: a language model that writes its reasons, then a score.

DeepSeek-V3 (arXiv:2412.19437, §5.2.1). It is trained by SFT on judgements, as `pipelines.supervised` does it. What is
evaluated are verdicts on answers to problems that were not trained on (`evaluation.generative_evaluation`).
"""

import contextlib
import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import ml_collections
import numpy as np
from jax.sharding import Mesh

from posttrain_jax.assembly.demonstrations import DemonstrationData, EncodingSettings, lay_out
from posttrain_jax.assembly.model import ModelSettings, Policy
from posttrain_jax.assembly.rollout_engine import EngineSettings
from posttrain_jax.data import arithmetic, judgements, preferences, prompts, sources, supervised
from posttrain_jax.data.judgements import ARITHMETIC, ENGLISH, Wording
from posttrain_jax.data.prompts import OverLimit, Row
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.evaluation.generative_evaluation import GenerativeEvaluation, JudgedAnswers
from posttrain_jax.learner.batch_learner import check_division
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.supervised import FittingSettings, fit
from posttrain_jax.reports.end import end_run
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.sections import EvaluationTimes, ReportSettings
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import InputError

READINGS = ("sampled", "expected")


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgementSettings(EncodingSettings):
  """Holds the `demonstrations` section; `configs/tiny_generative_reward.py` says what its fields mean."""

  path: str
  held_out: float
  low: int
  high: int
  per_difficulty: int
  copies: int
  held_out_per_difficulty: int
  held_out_copies: int
  seed: int
  wording: Wording | None = None

  def __post_init__(self):
    """Checks the scale of scores, and that no judgement is cut before its score."""
    if self.low >= self.high:
      raise InputError(f"demonstrations.low: {self.low}, expected below demonstrations.high, {self.high}")
    if not self.path and (self.low, self.high) != (0, 1):
      raise InputError(
        f"demonstrations.low: scores from {self.low} to {self.high}, expected 0 to 1 for the procedural judgements"
      )
    if self.too_long == supervised.TooLongExample.CUT:
      raise InputError("demonstrations.too_long: 'cut', expected drop or error; the score is at a judgement's end")
    if self.wording is not None and not self.path:
      raise InputError(
        "demonstrations.wording: given without demonstrations.path; the procedural judgements have theirs"
      )

  @property
  def worded(self) -> Wording:
    """Returns how the judge is asked: as given, or for a file in English."""
    return self.wording or (ENGLISH if self.path else ARITHMETIC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgingEvaluation(EvaluationTimes, EngineSettings):
  """Holds the `eval` section.

  Attributes:
    samples: judgements drawn of each answer.
    over_limit: what happens to answers that are too long to be judged.
  """

  samples: int = at_least(1)
  over_limit: OverLimit


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerativeRewardSettings(FittingSettings):
  """Holds the config of a run; `configs/tiny_generative_reward.py` says what its fields mean."""

  seed: int
  model: ModelSettings
  mesh: Mapping[str, int]
  demonstrations: JudgementSettings
  eval: JudgingEvaluation
  logging: ReportSettings


@dataclasses.dataclass(frozen=True)
class JudgementRows:
  """Holds judgements as text.

  Attributes:
    train: rows of "prompt", "completion" and "label".
    held_out: of other problems.
    problems: of each held-out row, which problem it is about.
    digest: sha256 of what was read.
  """

  train: Sequence[Row]
  held_out: Sequence[Row]
  problems: Sequence[Hashable]
  digest: str


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Trains a judge, or goes on with a run that was stopped.

  Args:
    config: see `configs/tiny_generative_reward.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/ and report.html.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: if `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  settings = parse(GenerativeRewardSettings, config)
  offline.check_best(settings.eval, READINGS)
  with contextlib.ExitStack() as stack:
    rows = read_judgements(settings.demonstrations)
    run = MethodAssembly(settings, stack, symbols=judgements.JUDGE_SYMBOLS)
    check_division(run.mesh, batch_size=settings.batch_size, micro_batches=settings.micro_batches)
    data = _lay_out(settings, rows, run.policy)
    data.check_context(run.policy.model)
    settings = offline.with_length(settings, data.batches.num_rows)
    evaluation = _evaluation(settings, rows, run.policy, run.mesh)
    run.digests |= data.digests
    directory, preemption = run.open(workdir, settings)
    fit(settings, run.policy, run.mesh, data, directory.path, evaluation, preemption, seed=settings.seed)
  end_run(directory.path, report=settings.logging.report)


def read_judgements(section: JudgementSettings) -> JudgementRows:
  """Reads judgements: comparisons or scored answers of a file, or those of the procedural crowd.

  Raises:
    InputError: if nothing is there, if a row is not fit for use, or if nothing is left to train on or held out.
  """
  low, high = section.low, section.high
  if not section.path:
    return _procedural(section)
  rows, digest = sources.read_rows(section.path)
  parts = preferences.split_by_prompt(rows, held_out=section.held_out)
  for part, name in zip(parts, ("to train on", "held out")):
    if not part:
      raise InputError(f"demonstrations.held_out: {section.held_out} leaves no row {name}, expected some of each")
  made = [[judgements.judgements([row], low=low, high=high, wording=section.worded) for row in part] for part in parts]
  held_out = [(judged, str(row.columns["prompt"])) for row, both in zip(parts[1], made[1]) for judged in both]
  return JudgementRows(
    [judged for both in made[0] for judged in both],
    [row for row, _ in held_out],
    [name for _, name in held_out],
    digest,
  )


def _procedural(section: JudgementSettings) -> JudgementRows:
  written, problems = [], []
  for split, per_difficulty, copies in (
    (arithmetic.Split.TRAIN, section.per_difficulty, section.copies),
    (arithmetic.Split.HELD_OUT, section.held_out_per_difficulty, section.held_out_copies),
  ):
    problems = arithmetic.problems(split, per_difficulty=per_difficulty, seed=section.seed)
    written.append(judgements.arithmetic_judgements(problems, copies=copies, seed=section.seed))
  train_rows, held_out = (prompts.named_rows(part, "judgements") for part in written)
  names = [problem["prompt"] for problem in problems] * section.held_out_copies
  return JudgementRows(train_rows, held_out, names, prompts.rows_digest([*written[0], *written[1]]))


def _lay_out(settings: GenerativeRewardSettings, rows: JudgementRows, policy: Policy) -> DemonstrationData:
  return lay_out(
    settings.demonstrations,
    rows.train,
    (),
    rows.digest,
    policy.tokenizer,
    batch_size=settings.batch_size,
    weighting=settings.loss_weighting,
    seed=stream_seed(settings.seed, Stream.DEMONSTRATIONS),
  )


def _evaluation(
  settings: GenerativeRewardSettings, rows: JudgementRows, policy: Policy, mesh: Mesh
) -> GenerativeEvaluation:
  section, tokenizer = settings.demonstrations, policy.tokenizer
  answers = _judged_answers(settings, rows, tokenizer)
  sampling = settings.eval.sampling.of_tokenizer(tokenizer, "eval.sampling")

  def engine(sampling: SamplingConfig) -> Engine:
    return Engine(
      policy.model,
      sampling,
      Sizes(
        slots=settings.eval.slots,
        max_prompt_length=max(len(prompt.tokens) for prompt in answers.prompts),
        max_new_tokens=settings.eval.max_new_tokens,
      ),
      seed=stream_seed(settings.seed, Stream.EVALUATION),
      decode=tokenizer.decode,
      mesh=mesh,
    )

  return GenerativeEvaluation(
    policy.model,
    tokenizer,
    answers,
    engine(sampling),
    engine(sampling.greedy()),
    mesh,
    samples=settings.eval.samples,
    low=section.low,
    high=section.high,
    mark=section.worded.shown_mark,
  )


def _judged_answers(settings: GenerativeRewardSettings, rows: JudgementRows, tokenizer: Tokenizer) -> JudgedAnswers:
  section = settings.demonstrations
  asked, _ = prompts.make_prompts(
    rows.held_out,
    tokenizer,
    max_length=settings.eval.max_prompt_length,
    prompt_format=section.prompt_format,
    prompt_field="prompt",
    answer_field="label",
    over_limit=settings.eval.over_limit,
  )
  labels = np.array([rows.held_out[prompt.index].columns["label"] for prompt in asked], np.float64)
  return JudgedAnswers(asked, labels, [rows.problems[prompt.index] for prompt in asked])
