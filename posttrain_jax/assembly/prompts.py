"""Reads a run's prompts: of the procedural task, a JSONL file, or a TFDS data set."""

import dataclasses
import enum

from absl import logging

from posttrain_jax.assembly.prompt_format import FormatSettings
from posttrain_jax.data import arithmetic, prompts, sources
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.rewards.judge import check_reference
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import Prompt


class Task(enum.StrEnum):
  """Names the procedural tasks, both in `data.arithmetic`."""

  CHAINS = "chains"  # "7+8-2*3=", for models trained from scratch
  FACTS = "facts"  # "What is 7 * 8?", for pretrained ones


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSettings(FormatSettings):
  """Holds a config's group of fields about prompts.

  Attributes:
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT; empty for the procedural task.
    task: which procedural task.
    split: which of its splits.
    per_difficulty: problems of each number of steps.
    seed: of the procedural problems.
    over_limit: what happens to prompts with too many tokens.
    limit: at most this many prompts; 0 for all.
    difficulties: numbers of steps of the procedural problems; None for all.
  """

  path: str
  task: Task
  split: arithmetic.Split
  per_difficulty: int
  seed: int
  over_limit: prompts.OverLimit
  limit: int = at_least(0)
  difficulties: tuple[int, ...] | None = None


def load_prompts(
  section: PromptSettings, tokenizer: Tokenizer, *, max_prompt_length: int, where: str
) -> tuple[list[Prompt], dict[str, str]]:
  """Reads the prompts that a config section names, checked and as token ids.

  Args:
    section: which prompts.
    tokenizer: the model's.
    max_prompt_length: the limit in tokens.
    where: the section's dotted name.

  Returns:
    (prompts, `where` to the sha256 of what they were read from).

  Raises:
    InputError: if nothing is there, or if a row is not fit for use.
  """
  if not section.path:
    match section.task:
      case Task.CHAINS:
        problems = arithmetic.problems(
          section.split,
          per_difficulty=section.per_difficulty,
          seed=section.seed,
          difficulties=section.difficulties or arithmetic.DIFFICULTIES,
        )
      case Task.FACTS:
        problems = arithmetic.facts(section.split)
    rows, digest = prompts.named_rows(problems, "arithmetic"), prompts.rows_digest(problems)
  else:
    rows, digest = sources.read_rows(section.path)
  found, dropped = prompts.make_prompts(
    rows[: section.limit or None],
    tokenizer,
    max_length=max_prompt_length,
    prompt_format=section.prompt_format,
    over_limit=section.over_limit,
  )
  for prompt in found:
    check_reference(prompt.row, rows[prompt.index].source)
  if dropped:
    logging.warning("%s: dropped %d of %d prompts over %d tokens", where, dropped, len(rows), max_prompt_length)
  return found, {where: digest}
