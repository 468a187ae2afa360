"""Reads Llama-family weights from GGUF files, such as SmolLM2-135M-Instruct's, as float32.

GGUF is llama.cpp's format; reading it needs the optional package `gguf`. Apart from the names, two things differ from
Hugging Face files. Matrices may be quantised. The rows of the query and key projections are ordered for the rotation of
neighbouring pairs (0, 1), (2, 3), ... instead of (i, i + H / 2).
"""

import functools
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.tensors import ParamPath, Stored, assemble, match
from posttrain_jax.types import InputError

if TYPE_CHECKING:  # the package is optional
  from gguf import GGUFReader, ReaderTensor

_NAMES = {  # Hugging Face's name of a part: GGUF's
  "model.embed_tokens": "token_embd",
  "model.layers": "blk",
  "model.norm": "output_norm",
  "lm_head": "output",
  "input_layernorm": "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "post_attention_layernorm": "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
}
_KEYS = {  # "llama." keys that are read
  "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size", "attention.head_count",
  "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon", "rope.freq_base",
  "rope.scaling.type",
}  # fmt: skip


def load(path: pathlib.Path) -> tuple[TransformerConfig, dict[ParamPath, np.ndarray]]:
  """Reads a GGUF file.

  Args:
    path: the file.

  Returns:
    (config, float32 arrays by path in the transformer's state).

  Raises:
    InputError: as in `open_model`.
  """
  config, tensors = open_model(path)
  return config, assemble(config, tensors)


def open_model(path: pathlib.Path) -> tuple[TransformerConfig, dict[str, Stored]]:
  """Opens the model in a GGUF file; its tensors stay on disk.

  Args:
    path: the file.

  Returns:
    (config, the tensors by Hugging Face's names, read as float32 in Hugging Face's layout).

  Raises:
    InputError: if the package `gguf` is absent, the file is not GGUF or holds another architecture than Llama, a key
      may change what is computed and is not known, or a tensor is missing, unknown or of another shape.
  """
  reader = open_file(path)
  config = _config(reader, path, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
  tensors = {
    tensor.name: Stored(
      path,
      tensor.name,
      tuple(int(size) for size in reversed(tensor.shape)),  # GGUF counts dimensions from the innermost
      "float32",
      functools.partial(_read, tensor, config.head_dim),
    )
    for tensor in reader.tensors
  }
  return config, match(config, tensors, path, _spell)


@functools.lru_cache(maxsize=1)  # parsing takes seconds, and model and tokeniser come from the same file
def open_file(path: pathlib.Path) -> "GGUFReader":
  """Opens a GGUF file; its tensors stay on disk.

  Returns:
    The package's reader.

  Raises:
    InputError: if the package `gguf` is absent, or the file is missing or not GGUF.
  """
  try:
    import gguf
  except ImportError:
    raise InputError(f"{path}: reading GGUF needs a package that is not installed: pip install gguf") from None
  try:
    return gguf.GGUFReader(path)
  except FileNotFoundError:
    raise InputError(f"{path}: no such file") from None
  except Exception as error:  # the reader checks little: a damaged file fails in many ways
    raise InputError(f"{path}: not a readable GGUF file: {type(error).__name__}: {error}") from None


def field(reader: "GGUFReader", path: pathlib.Path, key: str, default: Any = ...) -> Any:
  """Returns the value of a metadata key, or `default` if the key is absent.

  Raises:
    InputError: if the key is absent and no default is given.
  """
  found = reader.get_field(key)
  if found is not None:
    return found.contents()
  if default is ...:
    raise InputError(f"{path}: GGUF key {key!r} is missing")
  return default


def _config(reader: "GGUFReader", path: pathlib.Path, tied: bool) -> TransformerConfig:
  get = functools.partial(field, reader, path)
  architecture = get("general.architecture")
  if architecture != "llama":
    raise InputError(f"{path}: general.architecture is {architecture!r}, supported is 'llama'")
  if get("llama.rope.scaling.type", "none") != "none":
    raise InputError(f"{path}: llama.rope.scaling.type is {get('llama.rope.scaling.type')!r}, supported is 'none'")

  def size(key, default=...):
    value = get(key, default)
    if not isinstance(value, int) or value < 1:  # some architectures have a list with a number for each layer
      raise InputError(f"{path}: {key} is {value!r}, expected a positive integer")
    return value

  def decimal(value):  # the float32 of 1e-5 is 9.99999975e-06: its shortest decimal is the intended number
    return float(str(np.float32(value)))

  width, heads = size("llama.embedding_length"), size("llama.attention.head_count")
  head_dim = size("llama.attention.key_length", width // heads)
  only = {"rope.dimension_count": head_dim, "attention.value_length": head_dim, "expert_count": 0}
  for key in reader.fields:
    name = key.removeprefix("llama.")
    if name != key and name not in _KEYS and get(key) != only.get(name):
      supported = f"supported is {only[name]!r}" if name in only else "a key that may change what the model computes"
      raise InputError(f"{path}: {key} is {get(key)!r}, {supported}")
  return TransformerConfig(
    vocab_size=len(get("tokenizer.ggml.tokens")),
    num_layers=size("llama.block_count"),
    embed_dim=width,
    mlp_dim=size("llama.feed_forward_length"),
    num_heads=heads,
    num_kv_heads=size("llama.attention.head_count_kv", heads),
    head_dim=head_dim,
    rope_theta=decimal(get("llama.rope.freq_base", 10_000.0)),
    norm_epsilon=decimal(get("llama.attention.layer_norm_rms_epsilon")),
    tied=tied,
    max_position_embeddings=None if get("llama.context_length", None) is None else size("llama.context_length"),
  )


def _spell(name: str) -> str:
  for ours, theirs in _NAMES.items():
    name = name.replace(ours, theirs)
  return name


def _read(tensor: "ReaderTensor", head_dim: int) -> np.ndarray:
  """Returns a tensor in float32 and in Hugging Face's order of rows.

  In that order dimension i of a query or key head is rotated together with i + H / 2.
  """
  from gguf.quants import dequantize  # the package is optional

  array = dequantize(tensor.data, tensor.tensor_type)
  if not tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
    return array
  pairs = array.reshape(-1, head_dim // 2, 2, array.shape[-1])
  return pairs.swapaxes(1, 2).reshape(array.shape)
