"""Weights are written in safetensors' format, one tensor at a time, in files no larger than asked for."""

import json
import pathlib
import weakref

import ml_dtypes
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file

from posttrain_jax.models.export import write_weights
from posttrain_jax.models.tensors import Stored
from posttrain_jax.types import InputError

RNG = np.random.default_rng(0)
ARRAYS = {
  "b.weight": RNG.normal(size=(5, 7)).astype(np.float32),
  "a.weight": RNG.normal(size=(3,)).astype(np.float16),
  "c.weight": RNG.normal(size=(2, 9)).astype(ml_dtypes.bfloat16),
  "d.weight": RNG.normal(size=(4, 4)).astype(np.float32).T,  # not contiguous
  "e.weight": RNG.normal(size=(1,)),
}


def stored(arrays):
  return {
    name: Stored(pathlib.Path("source"), name, array.shape, array.dtype.name, lambda array=array: array)
    for name, array in arrays.items()
  }


def write(directory, arrays=ARRAYS, *, dtype=None, shard_bytes=10**6):
  return write_weights(stored(arrays), directory, dtype=dtype, shard_bytes=shard_bytes)


def test_one_file_has_the_same_bytes(tmp_path):
  assert write(tmp_path) == ["model.safetensors"]
  found = load_file(tmp_path / "model.safetensors")
  assert found.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    assert found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes()
  content = (tmp_path / "model.safetensors").read_bytes()
  length = int.from_bytes(content[:8], "little")
  for name, entry in json.loads(content[8 : 8 + length]).items():  # readers view the bytes as the dtype
    if name in ARRAYS:
      assert (8 + length + entry["data_offsets"][0]) % ARRAYS[name].dtype.itemsize == 0
  with safetensors.safe_open(tmp_path / "model.safetensors", framework="np") as file:
    assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_values_are_rounded_to_the_dtype(tmp_path, dtype):
  write(tmp_path, dtype=np.dtype(dtype).name)
  for name, array in load_file(tmp_path / "model.safetensors").items():
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, ARRAYS[name].astype(dtype))


def test_shards_and_their_index(tmp_path):
  # In float32: 140, 12, 72, 64 and 4 bytes. 140 and 12 are too many for 150.
  files = write(tmp_path, dtype="float32", shard_bytes=150)
  shards = [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)]
  assert write(tmp_path, dtype="float32", shard_bytes=152)[:-1] == shards
  assert files == [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)] + ["model.safetensors.index.json"]
  index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
  assert index["metadata"] == {"total_parameters": 73, "total_size": 292}
  assert [sorted(load_file(tmp_path / shard)) for shard in shards] == [
    ["a.weight", "b.weight"],
    ["c.weight", "d.weight", "e.weight"],
  ]
  assert index["weight_map"] == {
    name: shards[i] for name, i in zip(("b.weight", "a.weight", "c.weight", "d.weight", "e.weight"), (0, 0, 1, 1, 1))
  }


def test_a_tensor_larger_than_the_limit_has_a_file_of_its_own(tmp_path):
  assert len(write(tmp_path, shard_bytes=1)) == len(ARRAYS) + 1


def test_one_tensor_is_in_memory_at_a_time(tmp_path):
  alive = []

  def read(name):
    assert [other for other, array in alive if array() is not None] == []
    array = np.ones((3, 3), np.float32)
    alive.append((name, weakref.ref(array)))
    return array

  tensors = {n: Stored(tmp_path, n, (3, 3), "float32", lambda n=n: read(n)) for n in "abcd"}
  write_weights(tensors, tmp_path, dtype="bfloat16", shard_bytes=40)
  assert len(alive) == 4


@pytest.mark.parametrize(
  "value, dtype, message",
  [
    (np.nan, None, "has NaN or infinity, expected finite values in float32"),
    (-np.inf, "bfloat16", "has NaN or infinity, expected finite values in bfloat16"),
    (1e5, "float16", "has a value that is too large for float16"),
    (3.4e38, "bfloat16", "has a value that is too large for bfloat16"),
  ],
)
def test_values_that_no_model_may_have(tmp_path, value, dtype, message):
  with pytest.raises(InputError, match=f"^source: tensor 'x' {message}$"):
    write(tmp_path, {"x": np.array([1, value], np.float32)}, dtype=dtype)
