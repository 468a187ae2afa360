"""Tests PPO-ptx's text: documents are learned whole, demonstrations as elsewhere."""

import dataclasses
import json

import numpy as np
import pytest

from configs import tiny_ppo
from posttrain_jax.assembly.pretraining_text import PretrainingTextSettings, load_pretraining
from posttrain_jax.data import demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

TOKENIZER = tiny_tokenizer(demonstrations.SYMBOLS)


def section(**changes):
  ptx = tiny_ppo.get_config().ptx
  ptx.field = changes.pop("field", "")
  ptx.demonstrations.update(per_difficulty=5, **changes)
  return parse(PretrainingTextSettings, ptx, "ptx")


def test_rows_of_a_micro_batch_fit_its_tokens():
  ptx = dataclasses.replace(section(row_length=16, packed=False), rows=24)
  # On 2 shards 12 rows of 16 tokens each: in parts of at most 3 rows, of 1 row where not even one fits.
  assert ptx.micro_batches(2, 48) == 4 and ptx.micro_batches(2, 1000) == 1 and ptx.micro_batches(2, 5) == 12
  assert ptx.micro_batches(2, 5 * 16) == 3  # 5 does not divide 12


def load(**changes):
  return load_pretraining(section(**changes), TOKENIZER, batch_size=4, seed=0)


def test_every_token_of_a_document_is_learned_but_its_first(tmp_path):
  path = tmp_path / "documents.jsonl"
  texts = ["1+2=3", "4*5=0 and more"[:5], "7" * 40]
  path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
  batches, digests = load(path=str(path), field="text", row_length=16, packed=False)
  assert batches.num_examples == 3 and set(digests) == {"ptx"}
  for batch in batches.in_order():
    lengths = (batch.segment_ids > 0).sum(-1)
    np.testing.assert_array_equal(batch.mask.sum(-1), np.maximum(lengths - 1, 0))
    assert lengths.max() == 16  # the long one is cut


def test_demonstrations_teach_what_the_assistant_said():
  batches, _ = load()
  assert 0 < batches.num_learned < batches.num_tokens
  again, _ = load()
  for name in ("tokens", "mask"):
    np.testing.assert_array_equal(getattr(batches.batch(3), name), getattr(again.batch(3), name))


def test_refusals(tmp_path):
  with pytest.raises(InputError, match=r"ptx\.demonstrations\.path: empty"):
    load(field="text")
  path = tmp_path / "documents.jsonl"
  path.write_text(json.dumps({"body": "1+2"}) + "\n")
  with pytest.raises(InputError, match="text is None, expected text"):
    load(path=str(path), field="text")
