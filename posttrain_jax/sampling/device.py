"""The engine's device side: its compiled programs, the slots' cache and state, and the pool of prompts' prefixes.

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
from posttrain_jax.sampling.requests import Request
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
    state: (cache, slots, pool), donated from program to program; None while nothing is allocated.
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
  ):
    """Makes the programs, arguments as those of `Engine`; they are compiled at their first use."""
    self._slots, self.width, self._max_new_tokens = slots, prefill_width, max_new_tokens
    longest = max_prompt_length + max_new_tokens
    self.buckets = tuple(sorted(prefill_buckets)) if prefill_buckets else length_buckets(max_prompt_length)
    # Whole vectors here too (see below): the last bit must not depend on the row of a prefill.
    self.resume_buckets = tuple(sorted({-(-length // 8) * 8 for length in length_buckets(longest)}))
    # S, rows of the cache: of another number than a multiple of 8 the last few would be computed without vector
    # instructions, and the last bit of a logprob would depend on the slot. The rows beyond `slots` stay empty.
    unit = 8 * batch_shards(mesh)
    self._rows = -(-slots // unit) * unit
    self.state: tuple[programs.Cache, programs.Slots, programs.Cache] | None = None

    sharding = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))  # noqa: E731
    graph, _ = abstract_transformer(model)
    cache, rows = sharding(BATCH, "tensor"), sharding(BATCH)
    pool, whole = sharding(None, "tensor"), sharding()
    self._prefill = jax.jit(functools.partial(programs.prefill, graph), donate_argnums=1, out_shardings=pool)
    self._fill = jax.jit(programs.fill, donate_argnums=(0, 1), out_shardings=(cache, rows))
    self._resume = jax.jit(
      functools.partial(programs.resume, graph), donate_argnums=(1, 2), out_shardings=(cache, rows)
    )
    self._decode = jax.jit(
      functools.partial(programs.decode, graph, steps=steps_per_dispatch, sampling=sampling),
      donate_argnums=(1, 2),
      out_shardings=(cache, rows, whole),
    )
    self._allocate = jax.jit(
      lambda: (
        programs.empty_cache(model, self._rows, longest),
        programs.empty_slots(self._rows),
        programs.empty_cache(model, prefill_width, max_prompt_length),
      ),
      out_shardings=(cache, rows, pool),
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
    cache, slots, pool = self._allocate.eval_shape()
    many, few = (self._new_slots([], width) for width in (self._slots, self.width))
    rows, into = (_pad([], width, 0) for width in (self._slots, self.width))
    tokens = [_padded([], (self.width, buckets[-1])) for buckets in (self.buckets, self.resume_buckets)]
    seed = np.uint32(0)
    return {
      "prefill": (self._prefill, (params, pool, tokens[0], into)),
      "fill": (self._fill, (cache, slots, pool, rows, rows, many[0], seed, many[1])),
      "resume": (self._resume, (params, cache, slots, tokens[1], into, few[0], seed, few[1])),
      "decode": (self._decode, (params, cache, slots)),
    }

  def prefill(self, params: nnx.State, batch: Sequence[tuple[int, Prompt]]) -> None:
    """Puts prompts of one bucket into rows of the pool."""
    cache, slots, pool = self.state
    bucket = bucket_of(self.buckets, max(len(prompt.tokens) for _, prompt in batch))
    # The last prompt token is left to decoding: it is the first token that a slot puts in.
    tokens = _padded([prompt.tokens[:-1] for _, prompt in batch], (self.width, bucket))
    into = _pad([row for row, _ in batch], self.width, self.width)  # out of range: dropped
    self.state = (cache, slots, self._prefill(params, pool, tokens, into))

  def fill(self, indices: Sequence[int], requests: Sequence[Request], rows: Sequence[int], seed: int) -> None:
    """Starts requests in slots, from rows of the pool. Arrays are padded to all slots: one program for any number."""
    cache, slots, pool = self.state
    new, identities = self._new_slots(requests, self._slots)
    into = _pad(indices, self._slots, self._rows)
    sources = _pad(rows, self._slots, 0)
    cache, slots = self._fill(cache, slots, pool, into, sources, new, np.uint32(seed), identities)
    self.state = (cache, slots, pool)

  def resume(self, params: nnx.State, indices: Sequence[int], requests: Sequence[Request], seed: int) -> None:
    """Goes on with answers, at most W of one bucket, in slots."""
    cache, slots, pool = self.state
    bucket = bucket_of(self.resume_buckets, max(request.length for request in requests))
    tokens = _padded([request.sequence[:-1] for request in requests], (self.width, bucket))
    new, identities = self._new_slots(requests, self.width)
    into = _pad(indices, self.width, self._rows)
    cache, slots = self._resume(params, cache, slots, tokens, into, new, np.uint32(seed), identities)
    self.state = (cache, slots, pool)

  def decode(self, params: nnx.State) -> tuple[programs.Drawn, np.ndarray]:
    """Runs one dispatch; returns what it drew, and which rows are still active, bool [rows], both on the host."""
    cache, slots, pool = self.state
    cache, slots, drawn = self._decode(params, cache, slots)
    self.state = (cache, slots, pool)
    return jax.device_get((drawn, slots.active))

  def stop(self, indices: Sequence[int]) -> None:
    """Empties slots."""
    cache, slots, pool = self.state
    keep = np.ones((self._rows,), bool)
    keep[list(indices)] = False
    active = jax.device_put(np.asarray(slots.active) & keep, slots.active.sharding)
    self.state = (cache, dataclasses.replace(slots, active=active), pool)

  def _new_slots(self, requests: Sequence[Request], width: int) -> tuple[programs.Slots, np.ndarray]:
    """State of slots that take these requests up where they are, and int32 [width, 3] that their keys are made of."""
    new = programs.Slots(
      token=_pad([request.sequence[-1] for request in requests], width, 0),
      position=_pad([request.length - 1 for request in requests], width, 0),
      drawn=_pad([request.drawn for request in requests], width, 0),
      limit=_pad([self._max_new_tokens] * len(requests), width, 0),
      active=np.arange(width) < len(requests),
      key=np.zeros((width, 2), np.uint32),
    )
    identities = [(request.prompt.index, request.sample, request.prompt.attempt) for request in requests]
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
