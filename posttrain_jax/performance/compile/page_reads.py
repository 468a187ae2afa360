"""Compares our kernel on pages with JAX's ragged paged attention.

Ours reads a prompt's pages once for all answers of a group (`models.page_kernels`). JAX's kernel has a list of pages
for each sequence, so each answer reads the prompt again. As it returns no log-sum-exp, it cannot be joined with a
separate read of the prompt. It takes heads of multiples of 128 only, so smaller ones are padded. Bytes are counted from
the work. Memory and text come from the compiler, for one layer on one chip.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention
from jax.sharding import NamedSharding, PartitionSpec

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.paged_attention import LIST_UNIT, PageList, Reads, paged
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.chips import chip_of
from posttrain_jax.performance.compile import compiled, topology
from posttrain_jax.performance.timing import rounded
from posttrain_jax.sampling.pages import PAGE, pages_for
from posttrain_jax.types import InputError

_BLOCK = {"num_kv_pages_per_block": 8, "num_queries_per_block": 32}  # of JAX's kernel: as many pages as ours
_LANES = 128
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Decoding:
  """Describes one decode step on one chip.

  Attributes:
    model: the transformer, in bfloat16.
    slots: answers.
    group: answers that share a prompt.
    prompt_length: tokens of each prompt.
    answer_length: live tokens of each answer.
    tensor: chips that the heads are split over.
  """

  model: TransformerConfig
  slots: int
  group: int
  prompt_length: int
  answer_length: int
  tensor: int = 1

  def __post_init__(self):
    """Raises InputError if the slots do not hold whole groups or the heads cannot be split."""
    if self.slots % self.group:
      raise InputError(f"--slots={self.slots}, expected a multiple of --group={self.group}")
    if self.model.num_kv_heads % self.tensor:
      raise InputError(f"--tensor={self.tensor} does not divide the model's {self.model.num_kv_heads} key/value heads")

  @property
  def kv_heads(self) -> int:
    """Returns the key/value heads of a chip."""
    return self.model.num_kv_heads // self.tensor

  @property
  def heads(self) -> int:
    """Returns the query heads of a chip."""
    return self.model.num_heads // self.tensor

  def read_bytes(self, *, by_sequence: bool) -> int:
    """Counts the bytes of the pages that a chip reads in a step.

    Args:
      by_sequence: whether each answer reads its prompt's pages, in heads padded to whole vectors, as JAX's kernel does.
    """
    width = self.model.head_dim
    if by_sequence:
      width += -width % _LANES
      pages = self.slots * pages_for(self.prompt_length + self.answer_length, PAGE)
    else:
      prompts = self.slots // self.group * pages_for(self.prompt_length, PAGE)
      pages = prompts + self.slots * pages_for(self.answer_length, PAGE)
    return pages * PAGE * 2 * self.kv_heads * width * 2 * self.model.num_layers


def compare(decoding: Decoding, topology_name: str) -> dict[str, Any]:
  """Counts what both ways read, and compiles both for one chip of a topology.

  Returns:
    For "page_kernels" and "ragged_paged_attention": `read_mib` of a step, all layers; `read_milliseconds` at the
    memory's bandwidth; `temporaries_mib` of a layer; `cache_mib` as it lies in memory, also of a layer; `cache_copies`,
    how often the program copies its cache; and the `seconds` to compile. A kernel that does not take the shapes has
    `refused` in place of the last four.

  Raises:
    InputError: if libtpu is not installed or the topology is unknown.
  """
  device = topology.devices(topology_name)[0]
  chip = chip_of(device.device_kind)
  found = {}
  for name, program in (("page_kernels", _ours), ("ragged_paged_attention", _ragged)):
    read = decoding.read_bytes(by_sequence=program is _ragged)
    found[name] = {"read_mib": rounded(read / _MIB)}
    if chip is not None:
      found[name]["read_milliseconds"] = rounded(1e3 * read / chip.bytes_per_second)
    try:
      found[name] |= _compile(*program(decoding), device)
    except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
      found[name]["refused"] = str(error).strip().splitlines()[0][:200]
  return found


def _compile(function: Callable, arguments: tuple, cache: jax.ShapeDtypeStruct, device: jax.Device) -> dict[str, Any]:
  mesh, start = make_mesh({}, [device]), time.perf_counter()
  place = NamedSharding(mesh, PartitionSpec())
  *arguments, cache = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), (*arguments, cache)
  )
  with jax.set_mesh(mesh):
    traced = jax.jit(function, donate_argnums=len(arguments)).trace(*arguments, cache)
    executable = traced.lower(lowering_platforms=("tpu",)).compile()
  memory, size = executable.memory_analysis(), cache.size
  instructions = compiled.instructions(executable.as_text())
  copies = [x for x in instructions if x.opcode == "copy" and any(array.size >= size for array in x.arrays)]
  others = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arguments))
  return {
    "temporaries_mib": rounded(memory.temp_size_in_bytes / _MIB),
    "cache_mib": rounded((memory.argument_size_in_bytes - others) / _MIB),
    "cache_copies": len(copies),
    "seconds": round(time.perf_counter() - start, 1),
  }


def _array(*shape: int, dtype: str = "int32") -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


_numbers = functools.partial(_array, dtype="bfloat16")


def _pages(decoding: Decoding) -> tuple[int, int, int]:
  """Counts pages of all answers, of all prompts, and of the longest sequence."""
  own, of_prompt = (pages_for(length, PAGE) for length in (decoding.answer_length, decoding.prompt_length))
  longest = pages_for(decoding.prompt_length + decoding.answer_length, PAGE)
  return decoding.slots * own, decoding.slots // decoding.group * of_prompt, longest


def _ours(decoding: Decoding) -> tuple[Callable, tuple, jax.ShapeDtypeStruct]:
  """Returns the attention of a layer, with its arguments; it also writes the new tokens."""
  own, of_prompts, _ = _pages(decoding)
  slots, prompts, width = decoding.slots, decoding.slots // decoding.group, decoding.model.head_dim

  def listed(pages: int) -> PageList:
    length = LIST_UNIT * pages_for(pages, LIST_UNIT)
    return PageList(_array(length), _array(length), _array(length), _array(1))

  reads = Reads(
    listed(own),
    listed(of_prompts),
    prompt_lengths=_array(prompts),
    readers=_array(slots),
    lanes=_array(slots),
    written=_array(slots, 2),
    first=_array(slots),
  )

  def function(reads, places, active, query, key, value, cache):
    return paged(reads, places, active)(query, key, value, (cache,))

  token = [_numbers(slots, 1, heads, width) for heads in (decoding.heads, decoding.kv_heads, decoding.kv_heads)]
  cache = _numbers(own + of_prompts, decoding.kv_heads, PAGE, 2 * width)
  return function, (reads, _array(slots), _array(slots, dtype="bool"), *token), cache


def _ragged(decoding: Decoding) -> tuple[Callable, tuple, jax.ShapeDtypeStruct]:
  """Returns JAX's kernel for a layer, with its arguments; new tokens are written elsewhere."""
  own, of_prompts, longest = _pages(decoding)
  slots, width = decoding.slots, decoding.model.head_dim
  padded = width + -width % _LANES
  longest = -(-longest // _BLOCK["num_kv_pages_per_block"]) * _BLOCK["num_kv_pages_per_block"]

  def function(query, lengths, pages, begins, number, cache):
    attended = ragged_paged_attention(query, cache, lengths, pages, begins, number, sm_scale=width**-0.5, **_BLOCK)
    return attended, cache

  arguments = (
    _numbers(slots, decoding.heads, padded),
    _array(slots),
    _array(slots, longest),
    _array(slots + 1),
    _array(1),
  )
  return function, arguments, _numbers(own + of_prompts, PAGE, 2 * decoding.kv_heads, padded)
