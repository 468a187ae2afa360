"""Where a run's demonstrations come from, and how they are laid out: written by the procedural crowd, or in a file."""

import dataclasses
from collections.abc import Mapping, Sequence

import ml_collections

from posttrain_jax.data import arithmetic, demonstrations, preferences, prompts, sources, supervised, tagged
from posttrain_jax.data.demonstrations import Crowd
from posttrain_jax.data.encoding import Example, encode_demonstrations
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.runs.settings import build, convert
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class DemonstrationData:
  """Demonstrations ready for training.

  Attributes:
    batches: what is trained on.
    validation: what is held out; None where nothing is.
    digests: "demonstrations" to the sha256 of what was read.
    facts: counts of rows, examples and tokens, and how full packed rows are, under `data/`.
  """

  batches: SupervisedBatches
  validation: SupervisedBatches | None
  digests: Mapping[str, str]
  facts: Mapping[str, float]


def load_demonstrations(
  section: ml_collections.ConfigDict, tokenizer: Tokenizer, *, batch_size: int, weighting: str, seed: int
) -> DemonstrationData:
  """Reads demonstrations and lays them out in rows.

  Args:
    section: see `configs/tiny_sft.py:training`.
    tokenizer: the model's.
    batch_size: rows of a batch.
    weighting: a `supervised.Weighting`.
    seed: of the shuffling.

  Raises:
    InputError: nothing is there, or an example is not fit for use.
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
  return lay_out(section, rows, held_out, digest, tokenizer, batch_size=batch_size, weighting=weighting, seed=seed)


def lay_out(
  section: ml_collections.ConfigDict,
  rows: Sequence[Row],
  held_out: Sequence[Row],
  digest: str,
  tokenizer: Tokenizer,
  *,
  batch_size: int,
  weighting: str,
  seed: int,
) -> DemonstrationData:
  """Tokenises rows, those to train on and those held out (which may be none), and lays them out in batches.

  Args:
    section: `row_length`, `packed` and how rows are encoded; see `configs/tiny_sft.py:training`.
    rows: what is trained on.
    held_out: what is validated on.
    digest: of what was read.
    tokenizer: the model's.
    batch_size: rows of a batch.
    weighting: a `supervised.Weighting`.
    seed: of the shuffling.

  Raises:
    InputError: an example is not fit for use.
  """
  options = dict(batch_size=batch_size, seed=seed, pad_id=tokenizer.pad_id or 0, length=section.row_length)
  options |= dict(packed=section.packed, weighting=convert(supervised.Weighting, weighting, "loss_weighting"))
  examples, changed = encode(section, rows, tokenizer)
  batches = SupervisedBatches(examples, **options)
  validation = None
  if held_out:
    validation = SupervisedBatches(encode(section, held_out, tokenizer)[0], **options)
  facts = {
    "data/examples": batches.num_examples,
    "data/over_limit": changed,
    "data/rows": batches.num_rows,
    "data/tokens": batches.num_tokens,
    "data/learned": batches.num_learned,
    "data/packing_efficiency": batches.efficiency,
  }
  return DemonstrationData(batches, validation, {"demonstrations": digest}, facts)


def read_demonstrations(section: ml_collections.ConfigDict) -> tuple[list[Row], str]:
  """Rows that the section names, with the sha256 of what they were read from."""
  if sources.is_tfds(section.path):
    rows = sources.read_tfds(section.path)
    digest = prompts.rows_digest([row.columns for row in rows])
  elif section.path:
    rows, digest = prompts.read_jsonl(section.path), prompts.file_digest(section.path)
  else:
    given = dict(seed=section.seed, difficulties=section.get("difficulties", arithmetic.DIFFICULTIES))
    crowd = build(Crowd, section.crowd, "demonstrations.crowd") if "crowd" in section else Crowd()
    problems = arithmetic.problems(
      arithmetic.Split.TRAIN, per_difficulty=section.per_difficulty, **given
    ) + arithmetic.problems(arithmetic.Split.SFT_ONLY, per_difficulty=max(1, section.per_difficulty // 8), **given)
    written = demonstrations.demonstrations(problems, crowd=crowd, copies=section.copies, seed=section.seed)
    if section.get("tagged"):
      written = tagged.tag_some(written, share=section.tagged, seed=section.seed)
    rows, digest = prompts.named_rows(written, "demonstrations"), prompts.rows_digest(written)
  if section.limit < 0:
    raise InputError(f"demonstrations.limit: {section.limit}, expected 0 (all) or more")
  return rows[: section.limit or None], digest


def encode(section: ml_collections.ConfigDict, rows: Sequence[Row], tokenizer: Tokenizer) -> tuple[list[Example], int]:
  """Tokenises rows as the section says: (examples, number of those that were dropped or cut)."""
  if "{prompt}" not in section.template:
    raise InputError(f"demonstrations.template: {section.template!r} has no '{{prompt}}'")
  found = encode_demonstrations(
    rows, tokenizer, chat=section.chat, system=section.system or None, template=section.template
  )
  return supervised.limit_length(
    found,
    max_length=section.row_length,
    max_learned=section.max_completion or None,
    too_long=convert(supervised.TooLong, section.too_long, "demonstrations.too_long"),
  )
