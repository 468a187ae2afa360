"""Text that a policy must not forget while it is trained on rewards: documents, or demonstrations (PPO-ptx)."""

from collections.abc import Mapping

import ml_collections

from posttrain_jax.assembly.demonstrations import encode, read_demonstrations
from posttrain_jax.assembly.plain_text import documents, read_plain
from posttrain_jax.data import supervised
from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError


def load_pretraining(
  section: ml_collections.ConfigDict, tokenizer: Tokenizer, *, batch_size: int, seed: int
) -> tuple[SupervisedBatches, Mapping[str, str]]:
  """Reads text and lays it out in shuffled batches.

  Args:
    section: the config's `ptx` (see `configs/tiny_ppo.py`): with `field`, documents in that column of the file, of
      which every token is learned; without, the demonstrations of its section.
    tokenizer: the model's.
    batch_size: rows of an update.
    seed: of the shuffling.

  Returns:
    (batches, "ptx" to the sha256 of what was read).

  Raises:
    InputError: nothing is there, or a row is not fit for use.
  """
  source = section.demonstrations
  if section.field and not source.path:
    raise InputError("ptx.demonstrations.path: empty, expected the file that has the documents of ptx.field")
  if section.field:
    plain = dict(path=source.path, field=section.field, limit=source.limit, row_length=source.row_length)
    rows, digest = read_plain(ml_collections.ConfigDict(plain))
    examples = documents(rows, tokenizer, field=section.field, row_length=source.row_length)
  else:
    rows, digest = read_demonstrations(source)
    examples, _ = encode(source, rows, tokenizer)
  layout = dict(length=source.row_length, packed=source.packed, pad_id=tokenizer.pad_id or 0)
  return supervised.SupervisedBatches(examples, batch_size=batch_size, seed=seed, **layout), {"ptx": digest}
