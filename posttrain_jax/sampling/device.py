"""Runs the engine's compiled programs and owns the memory that they work on.

Pads the host's requests to the programs' fixed shapes. Which request runs when is decided in `ledger.py`, and in which
slot in `places.py`.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax import compiled_once
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import BATCH, batch_shards
from posttrain_jax.sampling import programs
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.places import Place, Places
from posttrain_jax.sampling.requests import Request
from posttrain_jax.sampling.state import Cache, Drawn, Slots, empty_cache, empty_slots
from posttrain_jax.types import InputError, Prompt

SHORTEST_BUCKET = 32  # tokens; a program for shorter prefills would take longer to compile than it gains


def length_buckets(longest: int) -> tuple[int, ...]:
  """Returns the widths to pad to: the longest length, its half and its quarter.

  The half or the quarter is left out if it is shorter than SHORTEST_BUCKET.
  """
  return tuple(sorted({longest, *(-(-longest // part) for part in (4, 2) if longest >= SHORTEST_BUCKET * part)}))


def bucket_of(buckets: Sequence[int], length: int) -> int:
  """Returns the first bucket, in rising order, that holds a length."""
  return next(bucket for bucket in buckets if length <= bucket)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Holds the numbers that fix the programs' shapes; `Engine` explains each.

  Attributes:
    slots: S, answers drawn at the same time.
    max_prompt_length: tokens of the longest prompt.
    max_new_tokens: cap on the tokens of an answer.
    steps_per_dispatch: decode steps in one dispatch.
    prefill_width: W, prompts or resumed answers in one prefill.
    share: T, answers that read one copy of a prompt.
  """

  slots: int
  max_prompt_length: int
  max_new_tokens: int
  steps_per_dispatch: int
  prefill_width: int
  share: int

  def __post_init__(self):
    """Raises InputError on a size below 1."""
    for field in dataclasses.fields(self):
      size = getattr(self, field.name)
      if size < 1:
        raise InputError(f"rollout.{field.name}: {size}, expected at least 1")


class Device:
  """Holds the programs and their memory.

  Attributes:
    buckets: lengths that prompts are padded to.
    resume_buckets: lengths that prompts with the beginning of an answer are padded to.
    state: (cache, slots, prefixes, pool), donated from program to program; None while nothing is allocated.
  """

  def __init__(self, model: TransformerConfig, sampling: SamplingConfig, mesh: Mesh, sizes: Sizes):
    """Makes the programs; they are compiled at their first use.

    Args:
      model: the transformer, layers unstacked.
      sampling: temperature, truncation, stop ids.
      mesh: devices and layout.
      sizes: the shapes.
    """
    self._sizes = sizes
    self.buckets = length_buckets(sizes.max_prompt_length)
    # Multiples of 8, so that rows fill whole vectors here too: the last bit must not depend on the row of a prefill.
    longest = sizes.max_prompt_length + sizes.max_new_tokens
    self.resume_buckets = tuple(sorted({-(-length // 8) * 8 for length in length_buckets(longest)}))
    # Rows of the cache, a multiple of 8. With any other number the last rows would be computed without vector
    # instructions, and the last bit of a logprob would depend on the slot. The rows beyond the slots stay empty.
    self._shards = batch_shards(mesh)
    unit = 8 * self._shards
    self._rows = -(-sizes.slots // unit) * unit
    # P, room for three times the prompts whose answers fill the slots: groups that have only their longest answers
    # left keep their row.
    per_shard = self._rows // self._shards
    self._prefixes = min(per_shard, 3 * -(-per_shard // sizes.share)) * self._shards
    self.state: tuple[Cache, Slots, Cache, Cache] | None = None

    sharding = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))  # noqa: E731
    graph, _ = abstract_transformer(model)
    cache, rows = sharding(BATCH, "tensor"), sharding(BATCH)
    pool, whole = sharding(None, "tensor"), sharding()
    jit, partial = compiled_once.jit, functools.partial
    self._prefill = jit(partial(programs.prefill, graph), donate_argnums=1, out_shardings=pool)
    self._fill = jit(programs.fill, donate_argnums=(0, 1), out_shardings=(cache, rows))
    self._recompute = jit(partial(programs.recompute, graph), donate_argnums=1, out_shardings=cache)
    self._decode = jit(
      partial(programs.decode, graph, steps=sizes.steps_per_dispatch, sampling=sampling, share=sizes.share),
      donate_argnums=(1, 2),
      out_shardings=(cache, rows, whole),
    )
    self._end = jit(programs.end, donate_argnums=0, out_shardings=rows)
    self._allocate = jit(
      partial(_empty, model, sizes, self._rows, self._prefixes), out_shardings=(cache, rows, cache, pool)
    )

  def places(self) -> Places:
    """Makes the record of which slots and rows are free, all of them at first."""
    return Places(
      slots=self._sizes.slots,
      slots_per_shard=self._rows // self._shards,
      rows=self._prefixes,
      shards=self._shards,
      share=self._sizes.share,
    )

  def allocate(self) -> None:
    """Allocates the memory unless it is allocated already."""
    if self.state is None:
      self.state = self._allocate()

  def abstract_calls(self, params: nnx.State) -> dict[str, tuple[jax.stages.Wrapped, tuple]]:
    """Names each program with the arguments of its longest call.

    Large arguments are abstract and nothing is allocated, so the programs can be compiled for devices that this machine
    does not have.

    Args:
      params: the sampler's parameters as ShapeDtypeStructs with shardings.

    Returns:
      name to (program, arguments).
    """
    cache, slots, prefixes, pool = self._allocate.eval_shape()
    new, identities = self._new_slots([])
    rows = _pad([], self._prefixes, 0)
    into = _pad([], self._sizes.prefill_width, 0)
    tokens = [_pad_rows([], (len(into), buckets[-1])) for buckets in (self.buckets, self.resume_buckets)]
    filled = (prefixes, slots, pool, rows, rows, _pad([], self._sizes.slots, 0), new, np.uint32(0), identities)
    return {
      "prefill": (self._prefill, (params, pool, tokens[0], into)),
      "fill": (self._fill, filled),
      "recompute": (self._recompute, (params, cache, tokens[1], into, into)),
      "decode": (self._decode, (params, cache, slots, prefixes)),
    }

  def prefill(self, params: nnx.State, batch: Sequence[tuple[int, Prompt]]) -> None:
    """Prefills prompts of one bucket into rows of the pool.

    Args:
      params: the sampler's parameters.
      batch: (row of the pool, prompt), at most W.
    """
    *others, pool = self.state
    width = self._sizes.prefill_width
    bucket = bucket_of(self.buckets, max(len(prompt.tokens) for _, prompt in batch))
    # The last prompt token is left to decoding: it is the first token that a slot feeds to the model.
    tokens = _pad_rows([prompt.tokens[:-1] for _, prompt in batch], (width, bucket))
    into = _pad([row for row, _ in batch], width, width)  # out of range: dropped
    self.state = (*others, self._prefill(params, pool, tokens, into))

  def fill(self, taken: Sequence[tuple[Request, Place, int]], seed: int) -> None:
    """Starts requests in their places; one program serves any number of them.

    Args:
      taken: each request with its place and its prompt's row of the pool.
      seed: the engine's seed.
    """
    cache, slots, prefixes, pool = self.state
    fresh = [(place.row, source) for _, place, source in taken if place.fresh]
    rows = _pad([row for row, _ in fresh], self._prefixes, self._prefixes)
    sources = _pad([source for _, source in fresh], self._prefixes, 0)
    indices = _pad([place.slot for _, place, _ in taken], self._sizes.slots, self._rows)
    new, identities = self._new_slots([(request, place) for request, place, _ in taken])
    prefixes, slots = self._fill(prefixes, slots, pool, rows, sources, indices, new, np.uint32(seed), identities)
    self.state = (cache, slots, prefixes, pool)

  def recompute(self, params: nnx.State, resumed: Sequence[tuple[Request, int]]) -> None:
    """Computes the keys and values of resumed answers, W of one bucket at a time.

    Args:
      params: the sampler's parameters.
      resumed: each request with its slot.
    """
    width = self._sizes.prefill_width
    by_bucket: dict[int, list[tuple[Request, int]]] = {}
    for request, slot in resumed:
      by_bucket.setdefault(bucket_of(self.resume_buckets, request.length), []).append((request, slot))
    for bucket, members in by_bucket.items():
      for first in range(0, len(members), width):
        part = members[first : first + width]
        cache, *others = self.state
        tokens = _pad_rows([request.sequence[:-1] for request, _ in part], (width, bucket))
        starts = _pad([len(request.prompt.tokens) - 1 for request, _ in part], width, 0)
        into = _pad([slot for _, slot in part], width, self._rows)
        self.state = (self._recompute(params, cache, tokens, starts, into), *others)

  def decode(self, params: nnx.State) -> tuple[Drawn, np.ndarray]:
    """Runs one dispatch.

    Returns:
      (what was drawn, which rows of the cache are still active as bool [rows]), both on the host.
    """
    cache, slots, *others = self.state
    cache, slots, drawn = self._decode(params, cache, slots, others[0])
    self.state = (cache, slots, *others)
    return jax.device_get((drawn, slots.active))

  def end(self, slots: Sequence[int]) -> None:
    """Ends the answers of some slots, which would go on drawing."""
    cache, state, *others = self.state
    ended = np.zeros((self._rows,), bool)
    ended[list(slots)] = True
    self.state = (cache, self._end(state, ended), *others)

  def _new_slots(self, placed: Sequence[tuple[Request, Place]]) -> tuple[Slots, np.ndarray]:
    """Makes the slots' state for requests, and int32 [S, 3] to derive their keys from."""
    width = self._sizes.slots
    new = Slots(
      token=_pad([request.sequence[-1] for request, _ in placed], width, 0),
      position=_pad([request.length - 1 for request, _ in placed], width, 0),
      drawn=_pad([request.drawn for request, _ in placed], width, 0),
      lane=_pad([place.lane for _, place in placed], width, 0),
      limit=_pad([self._sizes.max_new_tokens] * len(placed), width, 0),
      active=np.arange(width) < len(placed),
      key=np.zeros((width, 2), np.uint32),
    )
    identities = [(request.prompt.index, request.sample, request.prompt.attempt) for request, _ in placed]
    return new, _pad_rows(identities, (width, 3))


def _empty(model: TransformerConfig, sizes: Sizes, rows: int, prefixes: int) -> tuple[Cache, Slots, Cache, Cache]:
  return (
    empty_cache(model, rows, sizes.max_new_tokens),
    empty_slots(rows),
    empty_cache(model, prefixes, sizes.max_prompt_length),
    empty_cache(model, sizes.prefill_width, sizes.max_prompt_length),
  )


def _pad(values: Sequence[int], width: int, fill: int) -> np.ndarray:
  return np.array([*values, *[fill] * (width - len(values))], np.int32)


def _pad_rows(rows: Sequence[Sequence[int]], shape: tuple[int, int]) -> np.ndarray:
  tokens = np.zeros(shape, np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens
