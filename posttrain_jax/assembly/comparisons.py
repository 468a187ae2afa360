"""Where a run's comparisons come from: graded answers of the procedural crowd, a JSONL file, or a TFDS data set."""

import dataclasses
from collections.abc import Mapping

import ml_collections
from absl import logging

from posttrain_jax.data import arithmetic, graded_answers, preferences, prompts, sources
from posttrain_jax.data.graded_answers import Form
from posttrain_jax.data.preferences import BadRows, Comparison, TooLong
from posttrain_jax.data.prompts import PromptFormat, Row
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.runs.settings import convert
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class ComparisonData:
  """Comparisons, read and split by prompt.

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


def load_comparisons(section: ml_collections.ConfigDict, tokenizer: Tokenizer) -> ComparisonData:
  """Reads comparisons, holds some out and tokenises them.

  Args:
    section: see `configs/tiny_reward_model.py:preferences`.
    tokenizer: the model's.

  Raises:
    InputError: nothing is there or left, or a row is not fit for use and the config does not say to drop it.
  """
  if not 0 <= section.held_out < 1:
    raise InputError(f"preferences.held_out: {section.held_out}, expected a share from 0 to below 1")
  if section.limit < 0:
    raise InputError(f"preferences.limit: {section.limit}, expected 0 (all) or more")
  if "{prompt}" not in section.template:
    raise InputError(f"preferences.template: {section.template!r} has no '{{prompt}}'")
  rows, digest = _read(section)
  strengths = [convert(preferences.Strength, each, "preferences.strengths") for each in section.strengths]
  options = dict(
    prompt_format=PromptFormat(template=section.template, chat=section.chat, system=section.system or None),
    max_prompt_length=section.max_prompt_length,
    max_answer_length=section.max_answer_length,
    bad_rows=convert(BadRows, section.bad_rows, "preferences.bad_rows"),
    too_long=convert(TooLong, section.too_long, "preferences.too_long"),
  )
  train_rows, held_out_rows = preferences.split_by_prompt(rows, held_out=section.held_out)
  if not train_rows or (section.held_out and not held_out_rows):
    raise InputError(
      f"preferences.held_out: {section.held_out} leaves {len(train_rows)} rows to train on and {len(held_out_rows)} "
      "held out, expected some of each"
    )
  train, counts = preferences.read_comparisons(
    train_rows[: section.limit or None], tokenizer, strengths=strengths or None, **options
  )
  # All strengths are held out, whatever is trained on: accuracy is told by strength.
  held_out, held_out_counts = [], {}
  if held_out_rows:
    held_out, held_out_counts = preferences.read_comparisons(held_out_rows, tokenizer, **options)
  facts = {"data/comparisons": len(train), "data/pairs": len(preferences.pairs(train)), "data/held_out": len(held_out)}
  for reason in sorted({*counts, *held_out_counts}):
    facts[f"data/{reason}"] = counts.get(reason, 0) + held_out_counts.get(reason, 0)
  return ComparisonData(train, held_out, {"preferences": digest}, facts)


def _read(section: ml_collections.ConfigDict) -> tuple[list[Row], str]:
  if sources.is_tfds(section.path):
    rows = sources.read_tfds(section.path)
    return rows, prompts.rows_digest([row.columns for row in rows])
  if section.path:
    return prompts.read_jsonl(section.path), prompts.file_digest(section.path)
  problems = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=section.per_difficulty, seed=section.seed)
  written, left_out = graded_answers.graded_answers(
    problems,
    form=convert(Form, section.form, "preferences.form"),
    answers=section.answers,
    noise=section.noise,
    seed=section.seed,
  )
  logging.info("preferences: %d of %d problems have no comparison to make", left_out, len(problems))
  return prompts.named_rows(written, "graded answers"), prompts.rows_digest(written)
