"""Where a run's prompts come from: the procedural task, a JSONL file, or a TFDS data set."""

import enum

import ml_collections
from absl import logging

from posttrain_jax.data import arithmetic, prompts, sources
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.rewards.judge import check_reference
from posttrain_jax.runs.settings import convert
from posttrain_jax.types import InputError, Prompt


class Task(enum.StrEnum):
  """The procedural tasks, both in `data.arithmetic`."""

  CHAINS = "chains"  # "7+8-2*3=", for models trained from scratch
  FACTS = "facts"  # "What is 7 * 8?", for pretrained ones


def load_prompts(
  section: ml_collections.ConfigDict, tokenizer: Tokenizer, *, max_prompt_length: int, where: str
) -> tuple[list[Prompt], dict[str, str]]:
  """Reads the prompts that a config section names, checked and as token ids.

  Args:
    section: see `configs/tiny_sft.py:task`.
    tokenizer: the model's.
    max_prompt_length: the limit in tokens.
    where: the section's dotted name.

  Returns:
    (prompts, `where` to the sha256 of what they were read from).

  Raises:
    InputError: nothing is there, or a row is not fit for use.
  """
  if not section.path:
    split = convert(arithmetic.Split, section.split, f"{where}.split")
    match convert(Task, section.task, f"{where}.task"):
      case Task.CHAINS:
        difficulties = section.get("difficulties", arithmetic.DIFFICULTIES)
        problems = arithmetic.problems(
          split, per_difficulty=section.per_difficulty, seed=section.seed, difficulties=difficulties
        )
      case Task.FACTS:
        problems = arithmetic.facts(split)
    rows, digest = prompts.named_rows(problems, "arithmetic"), prompts.rows_digest(problems)
  elif sources.is_tfds(section.path):
    rows = sources.read_tfds(section.path)
    digest = prompts.rows_digest([row.columns for row in rows])
  else:
    rows, digest = prompts.read_jsonl(section.path), prompts.file_digest(section.path)
  if section.limit < 0:
    raise InputError(f"{where}.limit: {section.limit}, expected 0 (all) or more")
  found, dropped = prompts.make_prompts(
    rows[: section.limit or None],
    tokenizer,
    max_length=max_prompt_length,
    prompt_format=prompts.PromptFormat(template=section.template, chat=section.chat, system=section.system or None),
    over_limit=convert(prompts.OverLimit, section.over_limit, f"{where}.over_limit"),
  )
  for prompt in found:
    check_reference(prompt.row, rows[prompt.index].source)
  if dropped:
    logging.warning("%s: dropped %d of %d prompts over %d tokens", where, dropped, len(rows), max_prompt_length)
  return found, {where: digest}
