"""Runs the engine's compiled programs and owns the memory that they work on.

Pads the host's requests to the programs' fixed shapes. Which request runs when is decided in `ledger.py`, and in which
slot in `places.py`.
"""

import functools
from collections.abc import Callable, Sequence

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
from posttrain_jax.sampling.page_lists import Shape
from posttrain_jax.sampling.pages import PAGE, Pages, pages_for
from posttrain_jax.sampling.places import Place, Places
from posttrain_jax.sampling.pool_size import pages_per_shard, token_bytes
from posttrain_jax.sampling.requests import Request
from posttrain_jax.sampling.sizes import Sizes, bucket_of, length_buckets
from posttrain_jax.sampling.state import Cache, Drawn, Slots, empty_cache, empty_slots
from posttrain_jax.types import Prompt

LimitOf = Callable[[Prompt, int], int]

_MOVED = 32  # pages that one call copies to the host or back


class Device:
  """Holds the programs and their memory.

  Attributes:
    buckets: lengths that prompts are padded to.
    resume_buckets: lengths that prompts with the beginning of an answer are padded to.
    pages: pages of each shard's part of the cache.
    page: tokens of a page.
    state: (cache, slots, pool), donated from program to program; None while nothing is allocated.
  """

  def __init__(
    self, model: TransformerConfig, sampling: SamplingConfig, mesh: Mesh, sizes: Sizes, limit_of: LimitOf | None = None
  ):
    """Makes the programs; they are compiled at their first use.

    Args:
      model: the transformer, layers unstacked.
      sampling: temperature, truncation, stop ids.
      mesh: devices and layout.
      sizes: the shapes.
      limit_of: an answer's own cap, from its prompt and sample number; None: `sizes.max_new_tokens`.
    """
    self._sizes, self._limit_of = sizes, limit_of or (lambda prompt, sample: sizes.max_new_tokens)
    self.buckets = length_buckets(sizes.max_prompt_length)
    # Multiples of 8, so that rows fill whole vectors here too: the last bit must not depend on the row of a prefill.
    longest = sizes.max_prompt_length + sizes.max_new_tokens
    self.resume_buckets = tuple(sorted({-(-length // 8) * 8 for length in length_buckets(longest)}))
    # Rows of the slots' state, a multiple of 8. With any other number the last rows would be computed without vector
    # instructions, and the last bit of a logprob would depend on the slot. The rows beyond the slots stay empty.
    self._shards = batch_shards(mesh)
    unit = 8 * self._shards
    self._rows = -(-sizes.slots // unit) * unit
    # P, room for three times the prompts whose answers fill the slots: groups that have only their longest answers
    # left keep their row.
    per_shard = self._rows // self._shards
    prompts = min(per_shard, 3 * -(-per_shard // sizes.share))
    self.page = PAGE
    self._of_prompt = pages_for(sizes.max_prompt_length - 1, self.page)
    self._of_answer = pages_for(sizes.max_new_tokens, self.page)
    own, of_prompts = sizes.slots // self._shards * self._of_answer, prompts * self._of_prompt
    self.pages = pages_per_shard(
      model,
      mesh,
      asked=sizes.cache_tokens,
      shards=self._shards,
      most=own + of_prompts,
      least=self._of_answer + self._of_prompt,
      page=self.page,
    )
    self._lists = Shape(
      shards=self._shards,
      slots=per_shard,
      rows=prompts,
      share=sizes.share,
      page=self.page,
      steps=sizes.steps_per_dispatch,
      own=min(own, self.pages),
      of_prompts=min(of_prompts, self.pages),
    )
    self.cache_bytes = self.pages * self._shards * self.page * token_bytes(model)
    self.state: tuple[Cache, Slots, Cache] | None = None

    sharding = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))  # noqa: E731
    graph, _ = abstract_transformer(model)
    cache, rows = sharding(BATCH, "tensor"), sharding(BATCH)
    pool, whole = sharding(None, "tensor"), sharding()
    jit, partial = compiled_once.jit, functools.partial
    self._on_rows = rows
    self._prefill = jit(partial(programs.prefill, graph), donate_argnums=1, out_shardings=pool)
    self._fill = jit(programs.fill, donate_argnums=(0, 1), out_shardings=(cache, rows))
    self._recompute = jit(partial(programs.recompute, graph), donate_argnums=1, out_shardings=cache)
    self._decode = jit(
      partial(programs.decode, graph, steps=sizes.steps_per_dispatch, sampling=sampling),
      donate_argnums=(1, 2),
      out_shardings=(cache, rows, whole, rows),
    )
    self._end = jit(programs.end, donate_argnums=0, out_shardings=rows)
    self._take = jit(programs.take, out_shardings=pool)
    self._put = jit(programs.put, donate_argnums=0, out_shardings=cache)
    pages, pooled = self.pages * self._shards, sizes.prefill_width * max(1, self._of_prompt)
    on_tpu = mesh.devices.flat[0].platform == "tpu"
    self._allocate = jit(
      partial(_empty, model, rows=self._rows, pages=pages, pooled=pooled, page=self.page, joined=on_tpu),
      out_shardings=(cache, rows, pool),
    )

  def places(self) -> Places:
    """Makes the record of which slots, rows and pages are free, all of them at first."""
    return Places(
      slots=self._sizes.slots,
      slots_per_shard=self._lists.slots,
      rows=self._lists.rows * self._shards,
      shards=self._shards,
      share=self._sizes.share,
      pages=Pages(per_shard=self.pages, shards=self._shards, page=self.page),
      steps=self._sizes.steps_per_dispatch,
      cap=self._sizes.max_new_tokens,
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
    cache, slots, pool = self._allocate.eval_shape()
    new, identities = self._new_slots([])
    into, sources = _pad([], self._sizes.prefill_width, 0), _pad([], len(pool[0][0]), 0)
    tokens = [_pad_rows([], (len(into), buckets[-1])) for buckets in (self.buckets, self.resume_buckets)]
    filled = (cache, slots, pool, sources, sources, _pad([], self._sizes.slots, 0), new, np.uint32(0), identities)
    pages = _pad_rows([], (len(into), self._of_answer))
    reads = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._on_rows), self._lists.reads(self.places())
    )
    return {
      "prefill": (self._prefill, (params, pool, tokens[0], into)),
      "fill": (self._fill, filled),
      "recompute": (self._recompute, (params, cache, tokens[1], into, pages)),
      "decode": (self._decode, (params, cache, slots, reads)),
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
    none, unit = self.pages * self._shards, self._sizes.prefill_width * max(1, self._of_prompt)
    pages, sources = [], []
    for _, place, row in taken:
      pages += place.fresh
      sources += range(row * self._of_prompt, row * self._of_prompt + len(place.fresh))
    new, identities = self._new_slots([(request, place) for request, place, _ in taken])
    indices = _pad([place.slot for _, place, _ in taken], self._sizes.slots, self._rows)
    for first in range(0, max(1, len(pages)), unit):  # a prompt that is copied to several shards may need more calls
      cache, slots, pool = self.state
      into, part = _pad(pages[first : first + unit], unit, none), _pad(sources[first : first + unit], unit, 0)
      cache, slots = self._fill(cache, slots, pool, into, part, indices, new, np.uint32(seed), identities)
      self.state = (cache, slots, pool)

  def recompute(self, params: nnx.State, resumed: Sequence[tuple[Request, Place]]) -> None:
    """Computes the keys and values of resumed answers, W of one bucket at a time.

    Args:
      params: the sampler's parameters.
      resumed: each request with its place.
    """
    width = self._sizes.prefill_width
    by_bucket: dict[int, list[tuple[Request, Place]]] = {}
    for request, place in resumed:
      by_bucket.setdefault(bucket_of(self.resume_buckets, request.length), []).append((request, place))
    for bucket, members in by_bucket.items():
      for first in range(0, len(members), width):
        part = members[first : first + width]
        cache, *others = self.state
        tokens = _pad_rows([request.sequence[:-1] for request, _ in part], (width, bucket))
        starts = _pad([len(request.prompt.tokens) - 1 for request, _ in part], width, 0)
        into = _pad_rows([place.pages for _, place in part], (width, self._of_answer), self.pages * self._shards)
        self.state = (self._recompute(params, cache, tokens, starts, into), *others)

  def save(self, pages: Sequence[int]) -> Cache:
    """Copies pages to the host, so that others can have them."""
    parts = [
      jax.device_get(self._take(self.state[0], _pad(pages[first : first + _MOVED], _MOVED, 0)))
      for first in range(0, len(pages), _MOVED)
    ]
    return [tuple(np.concatenate(arrays)[: len(pages)] for arrays in zip(*layer)) for layer in zip(*parts)]

  def restore(self, saved: Cache, pages: Sequence[int]) -> None:
    """Copies pages that `save` returned back to the device, to the first of these pages."""
    count = len(saved[0][0])
    for first in range(0, count, _MOVED):
      part = jax.tree.map(lambda x, first=first: _fill_up(x[first : first + _MOVED], _MOVED), saved)
      into = _pad(pages[first : min(first + _MOVED, count)], _MOVED, self.pages * self._shards)
      cache, *others = self.state
      self.state = (self._put(cache, into, part), *others)

  def decode(self, params: nnx.State, places: Places) -> tuple[Drawn, np.ndarray]:
    """Runs one dispatch.

    Args:
      params: the sampler's parameters.
      places: of the requests that run, with pages for all tokens of the dispatch.

    Returns:
      (what was drawn, which rows of the slots' state are still active as bool [rows]), both on the host.
    """
    cache, slots, pool = self.state
    reads = jax.device_put(self._lists.reads(places), self._on_rows)
    cache, slots, *read = self._decode(params, cache, slots, reads)
    self.state = (cache, slots, pool)
    return tuple(jax.device_get(read))

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
      limit=_pad([self._limit(request) for request, _ in placed], width, 0),
      active=np.arange(width) < len(placed),
      key=np.zeros((width, 2), np.uint32),
    )
    identities = [(request.prompt.index, request.sample, request.prompt.attempt) for request, _ in placed]
    return new, _pad_rows(identities, (width, 3))

  def _limit(self, request: Request) -> int:
    return min(self._sizes.max_new_tokens, self._limit_of(request.prompt, request.sample))


def _empty(
  model: TransformerConfig, *, rows: int, pages: int, pooled: int, page: int, joined: bool
) -> tuple[Cache, Slots, Cache]:
  cache, pool = (empty_cache(model, count, page, joined=joined) for count in (pages, pooled))
  return cache, empty_slots(rows), pool


def _pad(values: Sequence[int], width: int, fill: int) -> np.ndarray:
  return np.array([*values, *[fill] * (width - len(values))], np.int32)


def _pad_rows(rows: Sequence[Sequence[int]], shape: tuple[int, int], fill: int = 0) -> np.ndarray:
  tokens = np.full(shape, fill, np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens


def _fill_up(x: np.ndarray, rows: int) -> np.ndarray:
  return np.concatenate([x, np.zeros((rows - len(x), *x.shape[1:]), x.dtype)])
