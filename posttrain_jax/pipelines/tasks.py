"""Where a run's prompts and demonstrations come from: the procedural task, JSONL files, or TFDS data sets."""

import enum

import ml_collections
from absl import logging

from posttrain_jax.data import arithmetic, demonstrations, prompts, sources, supervised
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.pipelines.settings import convert
from posttrain_jax.rewards.judge import check_reference
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
        problems = arithmetic.problems(split, per_difficulty=section.per_difficulty, seed=section.seed)
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


def load_demonstrations(
  section: ml_collections.ConfigDict, tokenizer: Tokenizer, *, batch_size: int, seed: int
) -> tuple[supervised.SupervisedBatches, dict[str, str]]:
  """Reads demonstrations and lays them out in rows.

  Args:
    section: see `configs/tiny_sft.py:training`; `path` is a JSONL file of "prompt" and "completion".
    tokenizer: the model's.
    batch_size: rows of a batch.
    seed: of the shuffling.

  Returns:
    (batches, digests as in `load_prompts`).

  Raises:
    InputError: nothing is there, or an example is not fit for use.
  """
  if section.path:
    rows, digest = prompts.read_jsonl(section.path), prompts.file_digest(section.path)
  else:
    problems = arithmetic.problems(
      arithmetic.Split.TRAIN, per_difficulty=section.per_difficulty, seed=section.seed
    ) + arithmetic.problems(
      arithmetic.Split.SFT_ONLY, per_difficulty=max(1, section.per_difficulty // 8), seed=section.seed
    )
    written = demonstrations.demonstrations(problems, copies=section.copies, seed=section.seed)
    rows, digest = prompts.named_rows(written, "demonstrations"), prompts.rows_digest(written)
  examples, changed = supervised.limit_length(
    supervised.encode_completions(rows, tokenizer),
    max_length=section.row_length,
    max_learned=section.max_completion or None,
    too_long=convert(supervised.TooLong, section.too_long, "demonstrations.too_long"),
  )
  if changed:
    logging.info("demonstrations: %d of %d were over a limit (%s)", changed, len(rows), section.too_long)
  batches = supervised.SupervisedBatches(
    examples,
    batch_size=batch_size,
    seed=seed,
    pad_id=tokenizer.pad_id or 0,
    length=section.row_length,
    packed=section.packed,
  )
  return batches, {"demonstrations": digest}
