"""Reads a run's prompts: of the procedural task, a JSONL file, or a TFDS data set."""

import dataclasses
import enum
from collections.abc import Sequence

from absl import logging

from posttrain_jax.assembly.prompt_format import FormatSettings
from posttrain_jax.data import arithmetic, preferences, prompts, sources
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.tokenizer import Tokenizer
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


@dataclasses.dataclass(frozen=True)
class Part:
  """Describes a part of a file's prompts; a hash of the prompt decides (`data.preferences.split_by_prompt`).

  Attributes:
    share: of the prompts that are held out.
    held_out: whether those are meant, or the others.
  """

  share: float
  held_out: bool

  def of(self, rows: Sequence[Row]) -> list[Row]:
    """Returns the part of the rows, in their order."""
    return preferences.split_by_prompt(rows, held_out=self.share)[self.held_out]


def count_parts(path: str, share: float) -> tuple[int, int]:
  """Counts the rows of a file that are trained on, and those that are held out.

  Raises:
    InputError: if the file cannot be read.
  """
  training, held_out = preferences.split_by_prompt(sources.read_rows(path)[0], held_out=share)
  return len(training), len(held_out)


def load_prompts(
  section: PromptSettings,
  tokenizer: Tokenizer,
  *,
  max_prompt_length: int,
  where: str,
  limit_field: str = "max_prompt_length",
  part: Part | None = None,
) -> tuple[list[Prompt], dict[str, str]]:
  """Reads the prompts that a config section names, as token ids.

  Reference answers are not checked here: `assembly.references` does it, for the verifiers that need them.

  Args:
    section: which prompts.
    tokenizer: the model's.
    max_prompt_length: the limit in tokens.
    where: the section's dotted name.
    limit_field: the config field of that limit.
    part: which part of a file's prompts; None for all.

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
    rows = rows if part is None else part.of(rows)
  found, dropped = prompts.make_prompts(
    rows[: section.limit or None],
    tokenizer,
    max_length=max_prompt_length,
    prompt_format=section.prompt_format,
    answer_required=False,  # `assembly.references` checks what the run's reward functions need
    over_limit=section.over_limit,
    limit_field=limit_field,
  )
  if dropped:
    logging.warning("%s: dropped %d of %d prompts over %d tokens", where, dropped, len(rows), max_prompt_length)
  return found, {where: digest}
