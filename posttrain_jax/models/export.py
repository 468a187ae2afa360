"""Writes the weights of a Hugging Face directory.

They are safetensors files, in shards with an index where there are several.

Tensors are read, cast and written one after the other. So the host holds one tensor, however large the model is; the
package `safetensors` would hold a whole shard. The format is a length, a JSON header with each tensor's dtype, shape
and place, and the tensors' bytes (little-endian, C order) one after the other.
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16")
import numpy as np

from posttrain_jax.models.tensors import Stored
from posttrain_jax.types import InputError

_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_Shard = Sequence[tuple[str, Stored, str]]  # name, tensor, dtype to write


def write_weights(
  tensors: Mapping[str, Stored], directory: pathlib.Path, *, dtype: str | None, shard_bytes: int
) -> list[str]:
  """Writes tensors as `model.safetensors`, or as numbered shards with `model.safetensors.index.json`.

  Args:
    tensors: the tensors by name, in the order in which they are written.
    directory: exists.
    dtype: "float32", "bfloat16" or "float16", to which values are rounded; None: each tensor's own.
    shard_bytes: most bytes of the tensors in a file. A larger tensor has a file of its own.

  Returns:
    Names of the files.

  Raises:
    InputError: if a value is not finite, or too large for the dtype; the message names the tensor.
  """
  shards = _shards([(name, stored, dtype or stored.dtype) for name, stored in tensors.items()], shard_bytes)
  if len(shards) == 1:
    _write_file(directory / "model.safetensors", shards[0])
    return ["model.safetensors"]
  weight_map = {}
  for number, shard in enumerate(shards, 1):
    file = f"model-{number:05}-of-{len(shards):05}.safetensors"
    _write_file(directory / file, shard)
    weight_map |= {name: file for name, _, _ in shard}
  sizes = {
    "total_parameters": sum(math.prod(stored.shape) for stored in tensors.values()),
    "total_size": sum(map(_bytes, (entry for shard in shards for entry in shard))),
  }
  index = json.dumps({"metadata": sizes, "weight_map": weight_map}, indent=2)
  (directory / "model.safetensors.index.json").write_text(index + "\n", "utf-8")
  return [*dict.fromkeys(weight_map.values()), "model.safetensors.index.json"]


def _shards(entries: _Shard, limit: int) -> list[_Shard]:
  """Splits tensors into files, in order."""
  shards, size = [[]], 0
  for entry in entries:
    if shards[-1] and size + _bytes(entry) > limit:
      shards.append([])
      size = 0
    shards[-1].append(entry)
    size += _bytes(entry)
  return shards


def _bytes(entry: tuple[str, Stored, str]) -> int:
  _, stored, dtype = entry
  return math.prod(stored.shape) * np.dtype(dtype).itemsize


def _write_file(path: pathlib.Path, shard: _Shard) -> None:
  shard = sorted(shard, key=lambda entry: -np.dtype(entry[2]).itemsize)  # so that each tensor is aligned
  header, end = {"__metadata__": {"format": "pt"}}, 0  # transformers refuses a file that does not say "pt"
  for name, stored, dtype in shard:
    start, end = end, end + _bytes((name, stored, dtype))
    header[name] = {"dtype": _DTYPES[dtype], "shape": list(stored.shape), "data_offsets": [start, end]}
  text = json.dumps(header, separators=(",", ":")).encode("utf-8")
  text += b" " * (-len(text) % 8)
  with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for name, stored, dtype in shard:
      _cast(stored, name, dtype).tofile(file)


def _cast(stored: Stored, name: str, dtype: str) -> np.ndarray:
  """Reads a tensor and returns its bytes in a dtype."""
  array = stored.read()
  assert array.shape == stored.shape and array.dtype == stored.dtype, (name, array.shape, array.dtype, stored)
  with np.errstate(over="ignore", invalid="ignore"):
    cast = array.astype(dtype, copy=False)
  if not np.isfinite(cast).all():
    found = (
      "a value that is too large for" if np.isfinite(array).all() else "NaN or infinity, expected finite values in"
    )
    raise InputError(f"{stored.file}: tensor {name!r} has {found} {dtype}")
  return np.ascontiguousarray(cast).view(np.uint8)
