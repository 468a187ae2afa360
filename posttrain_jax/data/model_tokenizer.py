"""Loads the tokeniser of a model.

It comes from a directory in Hugging Face's layout, or from a GGUF file.
"""

import pathlib

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.models import gguf
from posttrain_jax.models.load import resolve
from posttrain_jax.types import InputError


def load_tokenizer(path_or_name: str | pathlib.Path) -> Tokenizer:
  """Loads the tokeniser of a model.

  Args:
    path_or_name: a Hugging Face directory, a GGUF file or a known name.

  Raises:
    InputError: if there is no tokeniser, or it cannot be read.
  """
  path = resolve(path_or_name)
  return Tokenizer.load(path) if path.is_dir() else _from_gguf(path)


def _from_gguf(path: pathlib.Path) -> Tokenizer:
  """Makes the tokeniser that a GGUF file describes.

  Only SmolLM2's kind is supported, a byte-level BPE.

  Raises:
    InputError: if the package `gguf` is missing, or if the file is not GGUF or has another kind of tokeniser.
  """
  reader = gguf.open_file(path)

  def get(key, default=...):
    return gguf.field(reader, path, f"tokenizer.{key}", default)

  for key, supported in (("ggml.model", "gpt2"), ("ggml.pre", "smollm"), ("ggml.add_bos_token", False)):
    if get(key, supported) != supported:
      raise InputError(f"{path}: tokenizer.{key} is {get(key)!r}, supported is {supported!r}")
  tokens = get("ggml.tokens")
  merges = [tuple(merge.split(" ")) for merge in get("ggml.merges")]
  backend = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
  backend.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
  )
  backend.decoder = decoders.ByteLevel()
  control = [token for token, kind in zip(tokens, get("ggml.token_type"), strict=True) if kind == 3]
  backend.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in control])
  bos_id, eos_id, pad_id = (get(f"ggml.{name}_token_id", None) for name in ("bos", "eos", "padding"))
  end_of_turn = get("ggml.eot_token_id", None)
  stop_ids = tuple(dict.fromkeys(i for i in (eos_id, end_of_turn) if i is not None))
  found = Tokenizer(backend, bos_id, eos_id, pad_id, stop_ids, get("chat_template", None))
  return found.with_taught_stops()
