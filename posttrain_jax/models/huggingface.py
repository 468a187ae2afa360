"""Reads Hugging Face directories of Llama, SmolLM2, Qwen2, Qwen2.5 and Qwen3.

A directory has `config.json` and safetensors. It holds a language model (such as `LlamaForCausalLM`) or a reward model
(such as `LlamaForSequenceClassification`, with one label). `models.config_json` says what is refused.

Arrays are float32 NumPy arrays on the host, in the layout of `models.transformer`, with layers stacked on a leading
axis. The whole model has to fit into the host's memory.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16", which safetensors looks up)
import numpy as np
import safetensors

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.config_json import parse_config, parse_score_bias
from posttrain_jax.models.tensors import ParamPath, Stored, assemble, match
from posttrain_jax.types import InputError

_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def load(directory: pathlib.Path) -> tuple[TransformerConfig, dict[ParamPath, np.ndarray]]:
  """Reads a Hugging Face directory.

  Args:
    directory: as in `open_directory`.

  Returns:
    (config, float32 arrays by path in the transformer's state).

  Raises:
    InputError: if a file, key or tensor is missing, malformed or not supported.
  """
  config, tensors = open_directory(directory)
  arrays = assemble(config, tensors)
  if config.scalar_head:
    file = directory / "config.json"
    arrays["score_bias",] = np.asarray(parse_score_bias(read_json(file), file), np.float32)
  return config, arrays


def open_directory(directory: pathlib.Path) -> tuple[TransformerConfig, dict[str, Stored]]:
  """Opens a Hugging Face directory; its tensors stay on disk.

  Args:
    directory: holds `config.json` and `model.safetensors`, or shards with `model.safetensors.index.json`.

  Returns:
    (config, the model's tensors by name).

  Raises:
    InputError: if a file, key or tensor is missing, malformed or not supported.
  """
  config = parse_config(read_json(directory / "config.json"), directory / "config.json")
  tensors = {}
  for file, names in _files(directory):
    tensors |= _open(file, names)
  # Old Llama files store the rotary frequencies, which follow from the config.
  tensors = {name: stored for name, stored in tensors.items() if not name.endswith(".rotary_emb.inv_freq")}
  if config.tied and not config.scalar_head and "lm_head.weight" in tensors:
    head, embed = tensors.pop("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if embed is not None and not (
      head.shape == embed.shape and np.array_equal(head.read(), embed.read(), equal_nan=True)
    ):
      raise InputError(
        f"{head.file}: tensor 'lm_head.weight' differs from the embeddings, but config.json ties them "
        "(tie_word_embeddings)"
      )
  return config, match(config, tensors, directory)


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a file that holds one JSON object.

  Raises:
    InputError: if the file is missing, is not JSON (the message has the line) or holds another JSON value.
  """
  try:
    value = json.loads(path.read_text("utf-8"))
  except FileNotFoundError:
    raise InputError(f"{path}: no such file") from None
  except json.JSONDecodeError as error:
    raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"{path}: cannot be read: {error}") from None
  if not isinstance(value, dict):
    raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
  return value


def _files(directory: pathlib.Path) -> Iterator[tuple[pathlib.Path, set[str] | None]]:
  """Yields each safetensors file with its tensors' names from the index; None without an index."""
  index = directory / "model.safetensors.index.json"
  if not index.exists():
    yield directory / "model.safetensors", None
    return
  weight_map = read_json(index).get("weight_map")
  if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
    raise InputError(f"{index}: expected 'weight_map', an object of tensor names to file names")
  for file in sorted(set(weight_map.values())):
    if pathlib.PurePath(file).name != file:
      raise InputError(f"{index}: weight_map names {file!r}, expected a file in the same directory")
    yield directory / file, {tensor for tensor, holder in weight_map.items() if holder == file}


def _open(file: pathlib.Path, expected: set[str] | None) -> dict[str, Stored]:
  try:
    opened = safetensors.safe_open(file, framework="np")
  except FileNotFoundError:
    raise InputError(f"{file}: no such file") from None
  except (OSError, safetensors.SafetensorError) as error:
    raise InputError(f"{file}: not a readable safetensors file: {error}") from None
  names = set(opened.keys())
  for name in sorted((expected or names) - names):
    raise InputError(f"{file}: tensor {name!r} is missing, but model.safetensors.index.json lists it for this file")
  tensors = {}
  for name in sorted(names):
    header = opened.get_slice(name)
    if header.get_dtype() not in _FLOATS:
      raise InputError(f"{file}: tensor {name!r} is {header.get_dtype()}, expected one of {', '.join(_FLOATS)}")
    dtype = _FLOATS[header.get_dtype()]
    tensors[name] = Stored(file, name, tuple(header.get_shape()), dtype, lambda name=name: opened.get_tensor(name))
  return tensors
