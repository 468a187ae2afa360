"""The engine's device side: its compiled programs, the slots' cache and state, and the prompts' keys and values.

Takes requests as the host knows them, pads them to the programs' shapes, and says nothing about who goes when.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import BATCH, batch_shards
from posttrain_jax.sampling import programs
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.places import Place, Places
from posttrain_jax.sampling.requests import Request
from posttrain_jax.sampling.state import Cache, Drawn, Slots, empty_cache, empty_slots
from posttrain_jax.types import Prompt


def length_buckets(longest: int) -> tuple[int, ...]:
  """Prefill lengths to compile: the longest prompt, its half and its quarter, none shorter than 32 but the longest."""
  return tuple(sorted({longest, *(-(-longest // part) for part in (4, 2) if longest >= 32 * part)}))


class Device:
  """The programs and what they work on.

  Attributes:
    width: W, prompts or answers taken up again in one prefill.
    buckets: lengths that prompts are padded to.
    resume_buckets: lengths that prompts with the beginning of an answer are padded to.
    state: (cache, slots, prefixes, pool), donated from program to program; None while nothing is allocated.
  """

  def __init__(
    self,
    model: TransformerConfig,
    sampling: SamplingConfig,
    mesh: Mesh,
    *,
    slots: int,
    max_prompt_length: int,
    max_new_tokens: int,
    steps_per_dispatch: int,
    prefill_width: int,
    prefill_buckets: Sequence[int] | None,
    share: int,
  ):
    """Makes the programs, arguments as those of `Engine`; they are compiled at their first use."""
    self._slots, self.width, self._max_new_tokens, self._share = slots, prefill_width, max_new_tokens, share
    longest = max_prompt_length + max_new_tokens
    self.buckets = tuple(sorted(prefill_buckets)) if prefill_buckets else length_buckets(max_prompt_length)
    # Whole vectors here too (see below): the last bit must not depend on the row of a prefill.
    self.resume_buckets = tuple(sorted({-(-length // 8) * 8 for length in length_buckets(longest)}))
    # S, rows of the cache: of another number than a multiple of 8 the last few would be computed without vector
    # instructions, and the last bit of a logprob would depend on the slot. Rows that are not needed stay empty.
    self._shards = batch_shards(mesh)
    unit = 8 * self._shards
    self._rows = -(-slots // unit) * unit
    # P: enough for the answers of three times as many prompts as fill the slots, of which the longest are still drawn.
    per_shard = self._rows // self._shards
    self._prefixes = min(per_shard, 3 * -(-per_shard // share)) * self._shards
    self.state: tuple[Cache, Slots, Cache, Cache] | None = None

    sharding = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))  # noqa: E731
    graph, _ = abstract_transformer(model)
    cache, rows = sharding(BATCH, "tensor"), sharding(BATCH)
    pool, whole = sharding(None, "tensor"), sharding()
    self._prefill = jax.jit(functools.partial(programs.prefill, graph), donate_argnums=1, out_shardings=pool)
    self._fill = jax.jit(programs.fill, donate_argnums=(0, 1), out_shardings=(cache, rows))
    self._recompute = jax.jit(functools.partial(programs.recompute, graph), donate_argnums=1, out_shardings=cache)
    self._decode = jax.jit(
      functools.partial(programs.decode, graph, steps=steps_per_dispatch, sampling=sampling, share=share),
      donate_argnums=(1, 2),
      out_shardings=(cache, rows, whole),
    )
    self._allocate = jax.jit(
      lambda: (
        empty_cache(model, self._rows, max_new_tokens),
        empty_slots(self._rows),
        empty_cache(model, self._prefixes, max_prompt_length),
        empty_cache(model, prefill_width, max_prompt_length),
      ),
      out_shardings=(cache, rows, cache, pool),
    )

  def places(self) -> Places:
    """New books on the slots and the rows of prompts."""
    return Places(
      slots=self._slots,
      slots_per_shard=self._rows // self._shards,
      rows=self._prefixes,
      shards=self._shards,
      share=self._share,
    )

  def allocate(self) -> None:
    """Takes memory, if that has not been done."""
    if self.state is None:
      self.state = self._allocate()

  def abstract_calls(self, params: nnx.State) -> dict[str, tuple[jax.stages.Wrapped, tuple]]:
    """Each program by name with the arguments of its longest call, of which the large ones are abstract.

    So that they can be compiled for devices that are not there; nothing is allocated.

    Args:
      params: the sampler's parameters as ShapeDtypeStructs with shardings.
    """
    cache, slots, prefixes, pool = self._allocate.eval_shape()
    new, identities = self._new_slots([])
    rows = _pad([], self._prefixes, 0)
    into = _pad([], self.width, 0)
    tokens = [_padded([], (self.width, buckets[-1])) for buckets in (self.buckets, self.resume_buckets)]
    filled = (prefixes, slots, pool, rows, rows, _pad([], self._slots, 0), new, np.uint32(0), identities)
    return {
      "prefill": (self._prefill, (params, pool, tokens[0], into)),
      "fill": (self._fill, filled),
      "recompute": (self._recompute, (params, cache, tokens[1], into, into)),
      "decode": (self._decode, (params, cache, slots, prefixes)),
    }

  def prefill(self, params: nnx.State, batch: Sequence[tuple[int, Prompt]]) -> None:
    """Puts prompts of one bucket into rows of the pool."""
    *others, pool = self.state
    bucket = bucket_of(self.buckets, max(len(prompt.tokens) for _, prompt in batch))
    # The last prompt token is left to decoding: it is the first token that a slot puts in.
    tokens = _padded([prompt.tokens[:-1] for _, prompt in batch], (self.width, bucket))
    into = _pad([row for row, _ in batch], self.width, self.width)  # out of range: dropped
    self.state = (*others, self._prefill(params, pool, tokens, into))

  def fill(self, taken: Sequence[tuple[Request, Place, int]], seed: int) -> None:
    """Gives requests their places, from rows of the pool. Arrays are padded: one program for any number."""
    cache, slots, prefixes, pool = self.state
    fresh = [(place.row, source) for _, place, source in taken if place.fresh]
    rows = _pad([row for row, _ in fresh], self._prefixes, self._prefixes)
    sources = _pad([source for _, source in fresh], self._prefixes, 0)
    indices = _pad([place.slot for _, place, _ in taken], self._slots, self._rows)
    new, identities = self._new_slots([(request, place) for request, place, _ in taken])
    prefixes, slots = self._fill(prefixes, slots, pool, rows, sources, indices, new, np.uint32(seed), identities)
    self.state = (cache, slots, prefixes, pool)

  def recompute(self, params: nnx.State, under_way: Sequence[tuple[Request, int]]) -> None:
    """Computes the keys and values of answers under way, each for its slot; those of one bucket W at a time."""
    by_bucket: dict[int, list[tuple[Request, int]]] = {}
    for request, slot in under_way:
      by_bucket.setdefault(bucket_of(self.resume_buckets, request.length), []).append((request, slot))
    for bucket, members in by_bucket.items():
      for first in range(0, len(members), self.width):
        part = members[first : first + self.width]
        cache, *others = self.state
        tokens = _padded([request.sequence[:-1] for request, _ in part], (self.width, bucket))
        starts = _pad([len(request.prompt.tokens) - 1 for request, _ in part], self.width, 0)
        into = _pad([slot for _, slot in part], self.width, self._rows)
        self.state = (self._recompute(params, cache, tokens, starts, into), *others)

  def decode(self, params: nnx.State) -> tuple[Drawn, np.ndarray]:
    """Runs one dispatch; returns what it drew, and which rows are still active, bool [rows], both on the host."""
    cache, slots, *others = self.state
    cache, slots, drawn = self._decode(params, cache, slots, others[0])
    self.state = (cache, slots, *others)
    return jax.device_get((drawn, slots.active))

  def stop(self, indices: Sequence[int]) -> None:
    """Empties slots."""
    cache, slots, *others = self.state
    keep = np.ones((self._rows,), bool)
    keep[list(indices)] = False
    active = jax.device_put(np.asarray(slots.active) & keep, slots.active.sharding)
    self.state = (cache, dataclasses.replace(slots, active=active), *others)

  def _new_slots(self, placed: Sequence[tuple[Request, Place]]) -> tuple[Slots, np.ndarray]:
    """State of slots that take these requests up where they are, and int32 [S, 3] that their keys are made of."""
    width = self._slots
    new = Slots(
      token=_pad([request.sequence[-1] for request, _ in placed], width, 0),
      position=_pad([request.length - 1 for request, _ in placed], width, 0),
      drawn=_pad([request.drawn for request, _ in placed], width, 0),
      lane=_pad([place.lane for _, place in placed], width, 0),
      limit=_pad([self._max_new_tokens] * len(placed), width, 0),
      active=np.arange(width) < len(placed),
      key=np.zeros((width, 2), np.uint32),
    )
    identities = [(request.prompt.index, request.sample, request.prompt.attempt) for request, _ in placed]
    return new, _padded(identities, (width, 3))


def bucket_of(buckets: Sequence[int], length: int) -> int:
  """The least bucket that holds a length."""
  return next(bucket for bucket in buckets if length <= bucket)


def _pad(values: Sequence[int], width: int, fill: int) -> np.ndarray:
  return np.array([*values, *[fill] * (width - len(values))], np.int32)


def _padded(rows: Sequence[Sequence[int]], shape: tuple[int, int]) -> np.ndarray:
  tokens = np.zeros(shape, np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens
