"""A generative reward model: a language model that writes its reasons, then a score, trained by SFT on judgements.

DeepSeek-V3 (arXiv:2412.19437, §5.2.1). Training is that of `pipelines.sft`; what is evaluated are verdicts on answers
to problems that were not trained on (`evaluation.generative_evaluation`).
"""

import contextlib
import dataclasses
from collections.abc import Hashable, Sequence

import ml_collections
import numpy as np

from posttrain_jax.assembly.demonstrations import DemonstrationData, lay_out
from posttrain_jax.assembly.model import Policy, load_policy
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.data import arithmetic, judgements, preferences, prompts, sources, supervised
from posttrain_jax.data.prompts import OverLimit, PromptFormat, Row
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.evaluation.generative_evaluation import GenerativeEvaluation, JudgedAnswers
from posttrain_jax.learner.batch_learner import check_division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.supervised import DropoutRates
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.pipelines import offline, sft
from posttrain_jax.reports.report import write_report
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least, build, convert
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError

READINGS = ("sampled", "expected")


@dataclasses.dataclass(frozen=True)
class JudgementRows:
  """Judgements as text.

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
  """Trains a judge, or goes on with it.

  Args:
    config: see `configs/tiny_generative_reward.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/ and report.html.

  Raises:
    InputError: bad configuration or input, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  with contextlib.ExitStack() as stack:
    offline.check(config)
    at_least(config, {"eval.samples": 1})
    offline.check_best(config, READINGS)
    build(DropoutRates, config.dropout, "dropout")
    rows = read_judgements(config.demonstrations)
    policy, mesh = load_policy(config.model, symbols=judgements.JUDGE_SYMBOLS), make_mesh(config.mesh)
    check_division(mesh, batch_size=config.batch_size, micro_batches=config.micro_batches)
    data = _lay_out(config, rows, policy)
    offline.set_length(config, data.batches.num_rows)
    build(OptimizerConfig, config.optimizer, "optimizer")
    evaluation = _evaluation(config, rows, policy, mesh)
    digests = data.digests | policy_digests(config.model.path, policy.tokenizer)
    directory = stack.enter_context(Workdir.open(workdir, config, digests))
    preemption = stack.enter_context(Preemption())
    sft.fit(config, policy, mesh, data, directory.path, evaluation, preemption, seed=config.seed)
  if config.logging.report:
    write_report(directory.path)


def read_judgements(section: ml_collections.ConfigDict) -> JudgementRows:
  """Reads what the section names: comparisons or scored answers of a file, or what the procedural crowd wrote.

  Raises:
    InputError: nothing is there, a row is not fit for use, or nothing is left to train on or held out.
  """
  low, high = section.low, section.high
  if low >= high:
    raise InputError(f"demonstrations.low: {low}, expected below demonstrations.high, {high}")
  if not section.path:
    if (low, high) != (0, 1):
      raise InputError(
        f"demonstrations.low: scores from {low} to {high}, expected 0 to 1 for the procedural judgements"
      )
    return _procedural(section)
  if sources.is_tfds(section.path):
    rows = sources.read_tfds(section.path)
    digest = prompts.rows_digest(row.columns for row in rows)
  else:
    rows, digest = prompts.read_jsonl(section.path), prompts.file_digest(section.path)
  parts = preferences.split_by_prompt(rows, held_out=section.held_out)
  for part, name in zip(parts, ("to train on", "held out")):
    if not part:
      raise InputError(f"demonstrations.held_out: {section.held_out} leaves no row {name}, expected some of each")
  made = [[judgements.judgements([row], low=low, high=high) for row in part] for part in parts]
  held_out = [(judged, str(row.columns["prompt"])) for row, both in zip(parts[1], made[1]) for judged in both]
  return JudgementRows(
    [judged for both in made[0] for judged in both],
    [row for row, _ in held_out],
    [name for _, name in held_out],
    digest,
  )


def _procedural(section: ml_collections.ConfigDict) -> JudgementRows:
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


def _lay_out(config: ml_collections.ConfigDict, rows: JudgementRows, policy: Policy) -> DemonstrationData:
  section = config.demonstrations
  if section.too_long == supervised.TooLong.CUT:
    raise InputError("demonstrations.too_long: 'cut', expected drop or error; the score is at a judgement's end")
  return lay_out(
    section,
    rows.train,
    (),
    rows.digest,
    policy.tokenizer,
    batch_size=config.batch_size,
    weighting=config.loss_weighting,
    seed=stream_seed(config.seed, Stream.DEMONSTRATIONS),
  )


def _evaluation(config: ml_collections.ConfigDict, rows: JudgementRows, policy: Policy, mesh) -> GenerativeEvaluation:
  section, tokenizer = config.demonstrations, policy.tokenizer
  answers = _judged_answers(config, rows, tokenizer)

  def engine(sampling: SamplingConfig) -> Engine:
    return Engine(
      policy.model,
      sampling,
      seed=stream_seed(config.seed, Stream.EVALUATION),
      slots=config.eval.slots,
      max_prompt_length=max(len(prompt.tokens) for prompt in answers.prompts),
      max_new_tokens=config.eval.max_new_tokens,
      mesh=mesh,
    )

  sampling = build(SamplingConfig, config.eval.sampling, "eval.sampling", stop_ids=tokenizer.stop_ids)
  return GenerativeEvaluation(
    policy.model,
    tokenizer,
    answers,
    engine(sampling),
    engine(SamplingConfig(temperature=0.0, stop_ids=tokenizer.stop_ids)),
    mesh,
    samples=config.eval.samples,
    low=section.low,
    high=section.high,
  )


def _judged_answers(config: ml_collections.ConfigDict, rows: JudgementRows, tokenizer: Tokenizer) -> JudgedAnswers:
  section = config.demonstrations
  asked, _ = prompts.make_prompts(
    rows.held_out,
    tokenizer,
    max_length=config.eval.max_prompt_length,
    prompt_format=PromptFormat(template=section.template, chat=section.chat, system=section.system or None),
    prompt_field="prompt",
    answer_field="label",
    over_limit=convert(OverLimit, config.eval.over_limit, "eval.over_limit"),
  )
  labels = np.array([rows.held_out[prompt.index].columns["label"] for prompt in asked], np.float64)
  return JudgedAnswers(asked, labels, [rows.problems[prompt.index] for prompt in asked])
