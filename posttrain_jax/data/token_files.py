"""Tokenises the shards of `experiments.prepare` into files of token ids.

Each shard of documents becomes a folder with two parts, what is trained on and what is held out. A part has its tokens
one after another, each document with the end token, and the position after each document's last token. A folder
appears when all of it is written, so a start after a kill goes on with the next shard.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
import tokenizers
from array_record.python.array_record_module import ArrayRecordReader

from posttrain_jax import progress
from posttrain_jax.data.documents import read_shards
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError

_PARTS = ("train", "held_out")
_TOGETHER = 256  # documents that are tokenised in one call


@dataclasses.dataclass(frozen=True)
class TokenFile:
  """Holds one part of a shard.

  Attributes:
    tokens: uint16 or uint32 [N], on disk.
    ends: int64 [D], the position after the last token of each document.
  """

  tokens: np.ndarray
  ends: np.ndarray


def tokenize(
  prepared: str, tokenizer: Tokenizer, folder: pathlib.Path, *, held_out: float
) -> tuple[list[TokenFile], list[TokenFile]]:
  """Tokenises all shards that are not tokenised yet.

  A name of a control token in a text is text, and does not become that token.

  Args:
    prepared: a workdir of `experiments.prepare`.
    tokenizer: of the model.
    folder: gets the files.
    held_out: share of the documents that is held out, by a hash of their text.

  Returns:
    (what is trained on, what is held out), a file for each shard.

  Raises:
    InputError: as `read_shards`, if the tokeniser has no end token, or if it does not know a text.
  """
  if tokenizer.eos_id is None:
    raise InputError(f"model: its tokeniser has no end token, expected one, which separates documents of {prepared}")
  shards, _ = read_shards(prepared)
  dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
  folder.mkdir(exist_ok=True)
  for number, shard in enumerate(shards):
    progress.report("shards", number, len(shards))
    if not (folder / shard.stem).exists():
      _write(shard, tokenizer, folder / shard.stem, dtype, held_out)
  train, held = ([_open(folder / shard.stem, part, dtype) for shard in shards] for part in _PARTS)
  return train, held


def is_held_out(text: str, share: float) -> bool:
  """Tells by a hash of a text whether it is in the held-out share."""
  return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") < share * 2**64


def _write(shard: pathlib.Path, tokenizer: Tokenizer, folder: pathlib.Path, dtype: type, held_out: float) -> None:
  temporary = folder.with_name(folder.name + ".tmp")
  shutil.rmtree(temporary, ignore_errors=True)  # of a start that was killed
  temporary.mkdir()
  backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
  backend.encode_special_tokens = True
  places = dict.fromkeys(_PARTS, 0)
  with contextlib.ExitStack() as stack:
    files = {
      (part, kind): stack.enter_context(open(temporary / f"{part}.{kind}", "wb"))
      for part in _PARTS
      for kind in ("tokens", "ends")
    }
    for texts in _texts(shard):
      try:
        encoded = backend.encode_batch(texts)
      except Exception as error:  # tokenizers raises no narrower one
        raise InputError(f"{shard}: the model's tokeniser does not know a text: {error}") from None
      for text, found in zip(texts, encoded):
        part = _PARTS[is_held_out(text, held_out)]
        np.array([*found.ids, tokenizer.eos_id], dtype).tofile(files[part, "tokens"])
        places[part] += len(found.ids) + 1
        np.array([places[part]], np.int64).tofile(files[part, "ends"])
  os.replace(temporary, folder)


def _texts(shard: pathlib.Path) -> Iterator[Sequence[str]]:
  reader = ArrayRecordReader(str(shard))
  for start in range(0, reader.num_records(), _TOGETHER):
    records = reader.read(start, min(start + _TOGETHER, reader.num_records()))
    yield [json.loads(record)["text"] for record in records]


def _open(folder: pathlib.Path, part: str, dtype: type) -> TokenFile:
  path = folder / f"{part}.tokens"
  empty = not path.stat().st_size  # which cannot be mapped
  tokens = np.zeros(0, dtype) if empty else np.memmap(path, dtype, "r")
  return TokenFile(tokens, np.fromfile(folder / f"{part}.ends", np.int64))
