"""Loads the text of PPO-ptx, which a policy must not forget: documents or demonstrations."""

import dataclasses
from collections.abc import Mapping

from posttrain_jax.assembly.demonstrations import DemonstrationSettings, encode, read_demonstrations
from posttrain_jax.assembly.plain_text import documents, read_texts
from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingTextSettings:
  """Holds PPO's `ptx` section.

  Attributes:
    coefficient: γ, weight of the text's negative log-likelihood in every update of the policy; 0 for none.
    rows: of text in an update.
    field: the column of a file of documents that has the text, of which every token is learned; empty for
      demonstrations.
    demonstrations: where the text is.
  """

  coefficient: float
  rows: int = at_least(1)
  field: str
  demonstrations: DemonstrationSettings

  def micro_batches(self, shards: int, tokens: int) -> int:
    """Returns the fewest equal parts whose rows fit the tokens of a micro-batch.

    A part has at least one row on each batch shard.

    Args:
      shards: batch shards; divides the rows.
      tokens: of a micro-batch on each shard.
    """
    rows = self.rows // shards
    most = max(1, tokens // self.demonstrations.row_length)
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows // parts <= most)


def load_pretraining(
  section: PretrainingTextSettings, tokenizer: Tokenizer, *, batch_size: int, seed: int
) -> tuple[SupervisedBatches, Mapping[str, str]]:
  """Reads text and lays it out in shuffled batches.

  Args:
    section: the config's `ptx`.
    tokenizer: the model's.
    batch_size: rows of an update.
    seed: of the shuffling.

  Returns:
    (batches, "ptx" to the sha256 of what was read).

  Raises:
    InputError: if nothing is there, or if a row is not fit for use.
  """
  source = section.demonstrations
  if section.field and not source.path:
    raise InputError("ptx.demonstrations.path: empty, expected the file that has the documents of ptx.field")
  if section.field:
    rows, digest = read_texts(source.path, field=section.field, limit=source.limit)
    examples = documents(rows, tokenizer, field=section.field, row_length=source.row_length)
  else:
    rows, digest = read_demonstrations(source)
    examples = encode(source, rows, tokenizer).examples
  batches = SupervisedBatches(
    examples,
    batch_size=batch_size,
    seed=seed,
    pad_id=tokenizer.pad_id or 0,
    length=source.row_length,
    packed=source.packed,
  )
  return batches, {"ptx": digest}
