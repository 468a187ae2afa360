"""Runs the engine's compiled programs and owns the memory that they work on.

Pads the host's requests to the programs' fixed shapes. Which request runs when is decided in `scheduler.py`, and in
which slot in `places.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax import compiled_once
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import BATCH
from posttrain_jax.sampling import programs
from posttrain_jax.sampling.chunk_lists import chunk_arrays
from posttrain_jax.sampling.chunk_plan import Chunk
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.own_sampling import PerRequest, row_sampling
from posttrain_jax.sampling.page_lists import Shape
from posttrain_jax.sampling.pages import Pages
from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.pool_size import token_bytes
from posttrain_jax.sampling.requests import Request
from posttrain_jax.sampling.sizes import Sizes, layout_of
from posttrain_jax.sampling.state import Cache, Drawn, Slots, empty_cache, empty_slots
from posttrain_jax.types import Prompt

LimitOf = Callable[[Prompt, int], int]

_MOVED = 32  # pages that one call copies


class Device:
  """Holds the programs and their memory.

  Pages are counted from the first one of all devices.

  Attributes:
    layout: rows, pages and chunks of each shard.
    state: (cache, slots), donated from program to program; None while nothing is allocated.
  """

  def __init__(
    self,
    model: TransformerConfig,
    sampling: SamplingConfig | PerRequest,
    mesh: Mesh,
    sizes: Sizes,
    limit_of: LimitOf | None = None,
  ):
    """Makes the programs; they are compiled at their first use.

    Args:
      model: the transformer, layers unstacked.
      sampling: temperature, truncation, stop ids; or that each request has its own.
      mesh: devices and layout.
      sizes: the shapes.
      limit_of: an answer's own cap, from its prompt and sample number; None: `sizes.max_new_tokens`.
    """
    self._own_sampling = isinstance(sampling, PerRequest)
    self._sizes, self._limit_of = sizes, limit_of or (lambda prompt, sample: sizes.max_new_tokens)
    self.layout = layout = layout_of(model, mesh, sizes)
    self._pages, self._rows = layout.pages * layout.shards, layout.rows * layout.shards
    self._lists = Shape(
      shards=layout.shards,
      slots=layout.rows,
      rows=layout.prompts,
      share=sizes.share,
      page=layout.page,
      steps=sizes.steps_per_dispatch,
      own=min(layout.slots * layout.of_answer, layout.pages),
      of_prompts=min(layout.prompts * layout.of_prompt, layout.pages),
    )
    self.cache_bytes = self._pages * layout.page * token_bytes(model)
    self.state: tuple[Cache, Slots] | None = None

    sharding = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))  # noqa: E731
    graph, _ = abstract_transformer(model)
    cache, rows, whole = sharding(BATCH, "tensor"), sharding(BATCH), sharding()
    jit, partial = compiled_once.jit, functools.partial
    self._on_rows = rows
    self._prefill = jit(partial(programs.prefill, graph), donate_argnums=1, out_shardings=cache)
    self._begin = jit(programs.begin, donate_argnums=0, out_shardings=rows)
    self._decode = jit(
      partial(programs.decode, graph, steps=sizes.steps_per_dispatch, sampling=sampling),
      donate_argnums=(1, 2),
      out_shardings=(cache, rows, whole, rows),
    )
    self._end = jit(programs.end, donate_argnums=0, out_shardings=rows)
    self._copy = jit(programs.copy, donate_argnums=0, out_shardings=cache)
    self._take = jit(programs.take, out_shardings=sharding(None, "tensor"))
    self._put = jit(programs.put, donate_argnums=0, out_shardings=cache)
    on_tpu = mesh.devices.flat[0].platform == "tpu"
    self._allocate = jit(
      partial(
        _empty,
        model,
        rows=self._rows,
        pages=self._pages,
        page=layout.page,
        joined=on_tpu,
        own_sampling=self._own_sampling,
      ),
      out_shardings=(cache, rows),
    )

  def places(self) -> Places:
    """Makes the record of which slots, rows and pages are free, all of them at first."""
    layout = self.layout
    return Places(
      slots=self._sizes.slots,
      slots_per_shard=layout.rows,
      rows=layout.prompts * layout.shards,
      shards=layout.shards,
      share=self._sizes.share,
      pages=Pages(per_shard=layout.pages, shards=layout.shards, page=layout.page),
      steps=self._sizes.steps_per_dispatch,
      cap=self._sizes.max_new_tokens,
    )

  def allocate(self) -> None:
    """Allocates the memory unless it is allocated already."""
    if self.state is None:
      self.state = self._allocate()

  def abstract_calls(self, params: nnx.State) -> dict[str, tuple[jax.stages.Wrapped, tuple]]:
    """Names the programs that run the model, each with its arguments.

    Large arguments are abstract and nothing is allocated, so the programs can be compiled for devices that this machine
    does not have.

    Args:
      params: the sampler's parameters as ShapeDtypeStructs with shardings.

    Returns:
      name to (program, arguments).
    """
    cache, slots = self._allocate.eval_shape()
    given = chunk_arrays([[]] * self.layout.shards, self.layout), self._lists.reads(self.places())
    chunks, reads = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._on_rows), given)
    return {
      "prefill": (self._prefill, (params, cache, chunks)),
      "decode": (self._decode, (params, cache, slots, reads)),
    }

  def prefill(self, params: nnx.State, chunks: Sequence[Sequence[Chunk]]) -> None:
    """Computes the keys and values of chunks.

    Args:
      params: the sampler's parameters.
      chunks: of each shard, in the order of their texts.
    """
    cache, slots = self.state
    given = jax.device_put(chunk_arrays(chunks, self.layout), self._on_rows)
    self.state = self._prefill(params, cache, given), slots

  def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
    """Copies pages to as many other pages."""
    for first in range(0, len(sources), _MOVED):
      read = _pad(sources[first : first + _MOVED], _MOVED, 0)
      written = _pad(targets[first : first + _MOVED], _MOVED, self._pages)
      cache, slots = self.state
      self.state = self._copy(cache, read, written), slots

  def begin(self, begun: Sequence[tuple[int, Request]], seed: int) -> None:
    """Lets requests draw whose keys and values are all in their pages.

    One program serves any number of them.

    Args:
      begun: slots and requests.
      seed: the engine's seed.
    """
    new, identities = self._new_slots([request for _, request in begun])
    seed = None if identities is None else np.uint32(seed)
    indices = _pad([slot for slot, _ in begun], self._sizes.slots, self._rows)
    cache, slots = self.state
    self.state = cache, self._begin(slots, indices, new, seed, identities)

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
      into = _pad(pages[first : min(first + _MOVED, count)], _MOVED, self._pages)
      cache, slots = self.state
      self.state = self._put(cache, into, part), slots

  def decode(self, params: nnx.State, places: Places) -> tuple[Drawn, np.ndarray]:
    """Runs one dispatch.

    Args:
      params: the sampler's parameters.
      places: of the requests that run, with pages for all tokens of the dispatch.

    Returns:
      (what was drawn, which rows of the slots' state are still active as bool [rows]), both on the host.
    """
    cache, slots = self.state
    reads = jax.device_put(self._lists.reads(places), self._on_rows)
    cache, slots, *read = self._decode(params, cache, slots, reads)
    self.state = cache, slots
    return tuple(jax.device_get(read))

  def end(self, slots: Sequence[int]) -> None:
    """Ends the answers of some slots, which would go on drawing."""
    cache, state = self.state
    ended = np.zeros((self._rows,), bool)
    ended[list(slots)] = True
    self.state = cache, self._end(state, ended)

  def _new_slots(self, requests: Sequence[Request]) -> tuple[Slots, np.ndarray | None]:
    """Makes the slots' state for requests, and int32 [S, 3] for keys that they lack."""
    width = self._sizes.slots
    new = Slots(
      token=_pad([request.sequence[-1] for request in requests], width, 0),
      position=_pad([request.length - 1 for request in requests], width, 0),
      drawn=_pad([request.drawn for request in requests], width, 0),
      limit=_pad([self._limit(request) for request in requests], width, 0),
      active=np.arange(width) < len(requests),
      key=np.zeros((width, 2), np.uint32),
    )
    if self._own_sampling:
      keys = [request.own.key(request.prompt.tokens, request.sample) for request in requests]
      new.key[: len(keys)] = keys
      return dataclasses.replace(new, sampling=row_sampling([request.own for request in requests], width)), None
    identities = [(request.prompt.index, request.sample, request.prompt.attempt) for request in requests]
    return new, _pad_rows(identities, (width, 3))

  def _limit(self, request: Request) -> int:
    own = request.own.max_new_tokens if request.own else self._limit_of(request.prompt, request.sample)
    return min(self._sizes.max_new_tokens, own)


def _empty(
  model: TransformerConfig, *, rows: int, pages: int, page: int, joined: bool, own_sampling: bool
) -> tuple[Cache, Slots]:
  return empty_cache(model, pages, page, joined=joined), empty_slots(rows, own_sampling=own_sampling)


def _pad(values: Sequence[int], width: int, fill: int) -> np.ndarray:
  return np.array([*values, *[fill] * (width - len(values))], np.int32)


def _pad_rows(rows: Sequence[Sequence[int]], shape: tuple[int, int], fill: int = 0) -> np.ndarray:
  tokens = np.full(shape, fill, np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens


def _fill_up(x: np.ndarray, rows: int) -> np.ndarray:
  return np.concatenate([x, np.zeros((rows - len(x), *x.shape[1:]), x.dtype)])
