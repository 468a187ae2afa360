"""Reads a run's demonstrations, of the procedural crowd or of a file, and tokenises them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import logging

from posttrain_jax.assembly.prompt_format import FormatSettings
from posttrain_jax.data import arithmetic, demonstrations, preferences, prompts, sources, supervised, tagged
from posttrain_jax.data.assistant_world import corpus
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.chat_words import LeftOut
from posttrain_jax.data.demonstrations import USUAL_CROWD, Crowd
from posttrain_jax.data.encoding import Example, encode_demonstrations, has_empty_answer
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.supervised import SupervisedBatches, Weighting
from posttrain_jax.data.token_rows import TokenRows
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodingSettings(FormatSettings):
  """Holds what a config says of how demonstrations become rows of tokens.

  Attributes:
    row_length: tokens of a row.
    packed: whether a row holds several examples.
    max_completion: learned tokens of an example at most; 0 for no limit.
    too_long: what happens to examples over a limit.
  """

  row_length: int = at_least(1)
  packed: bool
  max_completion: int = at_least(0)
  too_long: supervised.TooLongExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusSettings:
  """Holds what a config says of the assistant world's plain text.

  Attributes:
    documents: number of documents, each a few sentences.
    world: what they tell.
  """

  documents: int = at_least(1)
  world: WorldSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemonstrationSettings(EncodingSettings):
  """Holds a config's group of fields about demonstrations.

  Attributes:
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT; empty for those of the procedural crowd.
    per_difficulty: procedural problems of each number of steps.
    copies: procedural demonstrations of each problem.
    seed: of the procedural demonstrations.
    limit: at most this many rows; 0 for all.
    held_out: share of the prompts that is kept for the validation loss.
    tagged: share of the procedural demonstrations that is put into R1's template; None for none.
    crowd: who writes the procedural demonstrations; None for the usual crowd.
    difficulties: numbers of steps of the procedural problems; None for all.
    corpus: the assistant world's plain text, in place of the procedural demonstrations; None for none.
  """

  path: str
  per_difficulty: int
  copies: int
  seed: int
  limit: int = at_least(0)
  held_out: float
  tagged: float | None = None
  crowd: Crowd | None = None
  difficulties: tuple[int, ...] | None = None
  corpus: CorpusSettings | None = None


@dataclasses.dataclass(frozen=True)
class DemonstrationData:
  """Holds demonstrations that are ready for training.

  Attributes:
    batches: what is trained on.
    validation: what is held out; None where nothing is.
    digests: "demonstrations" to the sha256 of what was read.
    facts: counts of rows, examples and tokens, and how full packed rows are, under `data/`.
  """

  batches: SupervisedBatches | TokenRows
  validation: SupervisedBatches | TokenRows | None
  digests: Mapping[str, str]
  facts: Mapping[str, float]

  def check_context(self, model: TransformerConfig) -> None:
    """Refuses demonstrations that are longer than a model's context.

    Raises:
      InputError: if one is, and the model is not allowed to go beyond it.
    """
    for batches in (self.batches, self.validation):
      if batches is not None:
        model.check_context(batches.longest, "demonstrations, the longest")


def load_demonstrations(
  section: DemonstrationSettings,
  tokenizer: Tokenizer,
  *,
  batch_size: int,
  weighting: Weighting,
  seed: int,
  own_share: float = 0.0,
) -> DemonstrationData:
  """Reads demonstrations and lays them out in rows.

  Args:
    section: which demonstrations.
    tokenizer: the model's.
    batch_size: rows of a batch.
    weighting: how examples weigh.
    seed: of the shuffling.
    own_share: share of a file's prompts that is held out where `held_out` is 0, unless that leaves nothing on a side.

  Raises:
    InputError: if nothing is there, or if an example is not fit for use.
  """
  rows, digest = read_demonstrations(section)
  held_out: Sequence[Row] = ()
  if not 0 <= section.held_out < 1:
    raise InputError(f"demonstrations.held_out: {section.held_out}, expected a share from 0 to below 1")
  if section.held_out:
    rows, held_out = preferences.split_by_prompt(rows, held_out=section.held_out)
    if not rows or not held_out:
      raise InputError(
        f"demonstrations.held_out: {section.held_out} leaves {len(rows)} rows to train on and {len(held_out)} to "
        "validate on, expected some of each"
      )
  elif section.path and own_share:
    parts = preferences.split_by_prompt(rows, held_out=own_share)
    if all(parts):
      rows, held_out = parts
      digest = prompts.rows_digest([{"file": digest, "own_share": own_share}])
  return lay_out(section, rows, held_out, digest, tokenizer, batch_size=batch_size, weighting=weighting, seed=seed)


def lay_out(
  section: EncodingSettings,
  rows: Sequence[Row],
  held_out: Sequence[Row],
  digest: str,
  tokenizer: Tokenizer,
  *,
  batch_size: int,
  weighting: Weighting,
  seed: int,
) -> DemonstrationData:
  """Tokenises rows to train on and held-out rows, and lays them out in batches.

  Args:
    section: how rows are encoded.
    rows: what is trained on.
    held_out: what is validated on.
    digest: of what was read.
    tokenizer: the model's.
    batch_size: rows of a batch.
    weighting: how examples weigh.
    seed: of the shuffling.

  Raises:
    InputError: if an example is not fit for use.
  """

  def in_batches(examples: Sequence[Example]) -> SupervisedBatches:
    return SupervisedBatches(
      examples,
      batch_size=batch_size,
      seed=seed,
      pad_id=tokenizer.pad_id or 0,
      length=section.row_length,
      packed=section.packed,
      weighting=weighting,
    )

  encoded = encode(section, rows, tokenizer)
  batches = in_batches(encoded.examples)
  validation = in_batches(encode(section, held_out, tokenizer).examples) if held_out else None
  facts = {
    "data/examples": batches.num_examples,
    f"data/over_limit_{'cut' if section.too_long == supervised.TooLongExample.CUT else 'dropped'}": encoded.changed,
    "data/empty": encoded.empty,
    "data/rows": batches.num_rows,
    "data/tokens": batches.num_tokens,
    "data/learned": batches.num_learned,
    "data/packing_efficiency": batches.efficiency,
  }
  return DemonstrationData(batches, validation, {"demonstrations": digest}, facts)


def read_demonstrations(section: DemonstrationSettings) -> tuple[list[Row], str]:
  """Reads the rows that the section names; returns them and the sha256 of their source."""
  if section.path:
    rows, digest = sources.read_rows(section.path)
  elif section.corpus:
    documents = corpus.corpus(make_world(section.corpus.world), section.corpus.documents, seed=section.seed)
    rows, digest = prompts.named_rows(documents, "corpus"), prompts.rows_digest(documents)
  else:
    counts = {
      arithmetic.Split.TRAIN: section.per_difficulty,
      arithmetic.Split.SFT_ONLY: max(1, section.per_difficulty // 8),
    }
    difficulties = section.difficulties or arithmetic.DIFFICULTIES
    problems = [
      problem
      for split, count in counts.items()
      for problem in arithmetic.problems(split, per_difficulty=count, seed=section.seed, difficulties=difficulties)
    ]
    written = demonstrations.demonstrations(
      problems, crowd=section.crowd or USUAL_CROWD, copies=section.copies, seed=section.seed
    )
    if section.tagged:
      written = tagged.tag_some(written, share=section.tagged, seed=section.seed)
    rows, digest = prompts.named_rows(written, "demonstrations"), prompts.rows_digest(written)
  return rows[: section.limit or None], digest


class EncodedRows(NamedTuple):
  """Holds rows as token ids, and what became of the others.

  Attributes:
    examples: the rows that are trained on.
    changed: number of rows that were dropped or cut for their length.
    empty: number of rows that were dropped, because their answer is empty.
  """

  examples: list[Example]
  changed: int
  empty: int


def encode(section: EncodingSettings, rows: Sequence[Row], tokenizer: Tokenizer) -> EncodedRows:
  """Tokenises rows as the section says, without those that have an empty answer.

  An empty answer would teach to end at once.

  Raises:
    InputError: if a row is not fit for use, or if all have an empty answer.
  """
  if "{prompt}" not in section.template:
    raise InputError(f"demonstrations.template: {section.template!r} has no '{{prompt}}'")
  kept = [row for row in rows if not has_empty_answer(row, tokenizer)]
  empty = len(rows) - len(kept)
  if empty:
    logging.warning("demonstrations: dropped %d of %d rows, whose answer is empty", empty, len(rows))
  if rows and not kept:
    raise InputError(f"{rows[0].source}: the answer is empty, and so are those of all {len(rows)} rows")
  found = encode_demonstrations(
    kept,
    tokenizer,
    chat=section.chat,
    system=section.system or None,
    template=section.template,
    chat_arguments=section.chat_arguments,
    left_out=section.left_out or LeftOut.ERROR,
  )
  examples, changed = supervised.limit_length(
    found,
    max_length=section.row_length,
    max_learned=section.max_completion or None,
    too_long=section.too_long,
  )
  return EncodedRows(examples, changed, empty)
