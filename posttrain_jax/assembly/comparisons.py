"""Reads a run's comparisons: of the procedural crowd, a file, or a TFDS data set."""

import dataclasses
from collections.abc import Mapping

from absl import logging

from posttrain_jax.assembly.prompt_format import FormatSettings
from posttrain_jax.data import arithmetic, graded_answers, preferences, prompts, sources
from posttrain_jax.data.graded_answers import GradingForm
from posttrain_jax.data.labelled_rows import labelled_answer
from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.preferences import BadRows, Comparison, Strength, TooLongComparison
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.learner.division import Division, division_of
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferenceSettings(FormatSettings):
  """Holds a config's group of fields about comparisons.

  Attributes:
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT, or several with commas between; empty for graded answers of the
      procedural crowd.
    form: of the procedural comparisons; of a file it says what to expect, for estimates and compile proofs, and whether
      rows are single answers with a label.
    per_difficulty: procedural problems of each number of steps.
    answers: of a ranking; of a file's, at most.
    noise: probability that the procedural grader errs.
    seed: of the procedural comparisons.
    limit: at most this many rows to train on; 0 for all.
    held_out: share of the prompts that is held out.
    strengths: train on comparisons of these strengths only; empty for all.
    max_prompt_length: limit in tokens.
    max_answer_length: limit in tokens.
    bad_rows: what happens to malformed rows.
    too_long: what happens to comparisons over a limit.
  """

  path: str
  form: GradingForm
  per_difficulty: int
  answers: int
  noise: float
  seed: int
  limit: int = at_least(0)
  held_out: float
  strengths: tuple[Strength, ...]
  max_prompt_length: int
  max_answer_length: int
  bad_rows: BadRows
  too_long: TooLongComparison

  @property
  def single(self) -> bool:
    """Tells whether rows are single answers with a label."""
    return self.form == GradingForm.SINGLE

  def division(self, tokens_per_micro_batch: int, *, comparisons: int, answers: int, read: bool = False) -> Division:
    """Returns how comparisons are cut into micro-batches; all answers to a prompt share a row.

    Args:
      tokens_per_micro_batch: the config's field; 0 for a chosen number.
      comparisons: of an update.
      answers: K, most answers to a prompt.
      read: whether a reward is read after each answer, which needs one more place.

    Raises:
      InputError: if a micro-batch cannot hold the longest prompt with K of the longest answers.
    """
    return division_of(
      tokens_per_micro_batch,
      prompts=comparisons,
      group=answers,
      prompt=self.max_prompt_length,
      answer=self.max_answer_length + read,
      together=True,
      field="tokens_per_micro_batch",
      limits=("preferences.max_prompt_length", f"preferences.max_answer_length{' + 1' * read}"),
    )


def answers_of_a_prompt(form: str, answers: int) -> int:
  """Returns how many answers to a prompt are compared, or are read with a single one.

  A file is not read; its form is the config's.

  Args:
    form: a `GradingForm`, as in `PreferenceSettings`.
    answers: of a ranking.
  """
  counts = {
    GradingForm.PAIR: 2,
    GradingForm.EDITED: 3,  # edited, chosen, rejected
    GradingForm.RANKING: answers,
    GradingForm.SINGLE: 2,  # the answer, and one to another prompt
  }
  return counts.get(form, 2)


@dataclasses.dataclass(frozen=True)
class ComparisonData:
  """Holds comparisons, read and split by prompt.

  Attributes:
    train: what is trained on.
    held_out: what is held out; may be none.
    digests: "preferences" to the sha256 of what was read.
    facts: how many there are, and how many rows were dropped or cut and why, under `data/`.
  """

  train: list[Comparison]
  held_out: list[Comparison]
  digests: Mapping[str, str]
  facts: Mapping[str, float]

  def check_context(self, model: TransformerConfig) -> None:
    """Refuses comparisons whose prompt and answer are longer than a model's context.

    Raises:
      InputError: if they are, and the model is not allowed to go beyond it.
    """
    for each in (*self.train, *self.held_out):
      longest = max(map(len, each.answers))
      model.check_context(len(each.prompt) + longest, f"{each.source}: prompt and answer")


def load_comparisons(section: PreferenceSettings, tokenizer: Tokenizer) -> ComparisonData:
  """Reads comparisons, holds some out and tokenises them.

  Args:
    section: which comparisons.
    tokenizer: the model's.

  Raises:
    InputError: if nothing is there or left, if a row is not fit for use and the config does not say to drop it, or if
      single answers are all good or all bad.
  """
  if not 0 <= section.held_out < 1:
    raise InputError(f"preferences.held_out: {section.held_out}, expected a share from 0 to below 1")
  if "{prompt}" not in section.template:
    raise InputError(f"preferences.template: {section.template!r} has no '{{prompt}}'")
  rows, digest = _read(section)
  train_rows, held_out_rows = preferences.split_by_prompt(rows, held_out=section.held_out)
  if not train_rows or (section.held_out and not held_out_rows):
    raise InputError(
      f"preferences.held_out: {section.held_out} leaves {len(train_rows)} rows to train on and {len(held_out_rows)} "
      "held out, expected some of each"
    )

  def tokenized(rows: list[Row], strengths: tuple[Strength, ...] | None) -> tuple[list[Comparison], dict[str, int]]:
    return preferences.read_comparisons(
      rows,
      tokenizer,
      prompt_format=section.prompt_format,
      max_prompt_length=section.max_prompt_length,
      max_answer_length=section.max_answer_length,
      bad_rows=section.bad_rows,
      too_long=section.too_long,
      strengths=strengths,
      read=labelled_answer if section.single else judgement,
    )

  train, counts = tokenized(train_rows[: section.limit or None], section.strengths or None)
  # All strengths are held out, whatever is trained on: accuracy is told by strength.
  held_out, held_out_counts = [], {}
  if held_out_rows:
    held_out, held_out_counts = tokenized(held_out_rows, None)
  if section.single:
    where = section.path or "graded answers"
    facts = _labels(train, f"{where}: to train on") | {"data/held_out": len(held_out)}
    if held_out:
      _labels(held_out, f"{where}: held out (preferences.held_out={section.held_out})")
  else:
    pairs = len(preferences.pairs(train))
    facts = {"data/comparisons": len(train), "data/pairs": pairs, "data/held_out": len(held_out)}
  for reason in sorted({*counts, *held_out_counts}):
    facts[f"data/{reason}"] = counts.get(reason, 0) + held_out_counts.get(reason, 0)
  return ComparisonData(train, held_out, {"preferences": digest}, facts)


def _labels(answers: list[Comparison], where: str) -> dict[str, int]:
  """Counts the labels of single answers, of which both kinds must be there."""
  good = sum(bool(answer.desirable) for answer in answers)
  if not 0 < good < len(answers):
    raise InputError(
      f"{where}: {good} good and {len(answers) - good} bad answers, expected some of each: KTO learns from the "
      "difference (good ones alone train experiments.sft)"
    )
  return {"data/examples": len(answers), "data/desirable": good, "data/undesirable": len(answers) - good}


def _read(section: PreferenceSettings) -> tuple[list[Row], str]:
  if section.path:
    return sources.read_rows(section.path)
  problems = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=section.per_difficulty, seed=section.seed)
  written, left_out = graded_answers.graded_answers(
    problems,
    form=section.form,
    answers=section.answers,
    noise=section.noise,
    seed=section.seed,
  )
  logging.info("preferences: %d of %d problems have no comparison to make", left_out, len(problems))
  return prompts.named_rows(written, "graded answers"), prompts.rows_digest(written)
