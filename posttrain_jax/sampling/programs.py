"""Computes what the engine needs on the device: prefill, begin, decode, end, copies of pages.

Every shape is fixed by the engine's sizes alone. This is what makes a request's tokens and logprobs the same bits in
any slot, in any order and next to any others.

Keys and values lie in pages of one cache (`models.paged_attention`). Prefill and decoding write them in place.

D devices that the rows are split over, S slots, K key/value heads, H head dimension.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax.models.chunk_attention import Chunks, chunked
from posttrain_jax.models.paged_attention import Reads, cleared, paged
from posttrain_jax.sampling.draw import SamplingConfig, draw
from posttrain_jax.sampling.own_draw import TopTokens, draw_rows
from posttrain_jax.sampling.own_sampling import PerRequest
from posttrain_jax.sampling.state import Cache, Drawn, Slots

# Named here, so that jax's global default cannot change the draws. With other generators a row's random bits depend on
# the other rows that are drawn in the same call.
_GENERATOR = "threefry2x32"


def prefill(graph: nnx.GraphDef, params: nnx.State, cache: Cache, chunks: Chunks) -> Cache:
  """Computes keys and values of chunks and writes them to their pages.

  A chunk is a part of a prompt or of a resumed answer.
  Keys and values of an answer that decoding made before `suspend` are never used again, even under the same parameters:
  they differ in bits from these.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    cache: all pages.
    chunks: the chunks.

  Returns:
    The cache.
  """
  positions = chunks.starts[:, None] + jnp.arange(chunks.tokens.shape[1])[None]
  _, cache = nnx.merge(graph, params)(chunks.tokens, positions, chunked(chunks), cache)
  return cache


def _each(function: Callable[..., jax.Array], *caches: Cache) -> Cache:
  """Applies a function to the arrays of caches."""
  return [tuple(function(*arrays) for arrays in zip(*layers)) for layers in zip(*caches)]


def put(cache: Cache, pages: jax.Array, kept: Cache) -> Cache:
  """Writes whole pages of a cache.

  Args:
    cache: all pages.
    pages: int32 [n], pages to write; those out of range are ignored.
    kept: keys and values of n pages.
  """
  return _each(lambda old, new: old.at[pages].set(new, mode="drop"), cache, kept)


def take(cache: Cache, pages: jax.Array) -> Cache:
  """Reads whole pages of a cache.

  Args:
    cache: all pages.
    pages: int32 [n], pages to read; one out of range gives the keys and values of any page.
  """
  return _each(lambda x: x.at[pages].get(mode="clip"), cache)


def copy(cache: Cache, sources: jax.Array, targets: jax.Array) -> Cache:
  """Copies pages of a cache to other pages.

  Args:
    cache: all pages.
    sources: int32 [n], pages to read.
    targets: int32 [n], pages to write; those out of range are ignored.
  """
  return put(cache, targets, take(cache, sources))


def _request_keys(seed: jax.Array, prompts: jax.Array, samples: jax.Array, attempts: jax.Array) -> jax.Array:
  """Makes keys uint32 [R, 2] from the seed and prompt, sample, attempt, each int32 [R]."""

  def one(prompt, sample, attempt):
    key = jax.random.key(seed, impl=_GENERATOR)
    for data in (prompt, sample, attempt):
      key = jax.random.fold_in(key, data)
    return jax.random.key_data(key)

  return jax.vmap(one)(prompts, samples, attempts)


def begin(slots: Slots, indices: jax.Array, new: Slots, seed: jax.Array | None, requests: jax.Array | None) -> Slots:
  """Sets the state of slots whose requests begin to draw.

  Args:
    slots: state of all S slots.
    indices: int32 [S], slots to set; those out of range are ignored.
    new: state of the S requests.
    seed: uint32 [], of the engine; None if the requests have keys of their own.
    requests: int32 [S, 3], prompt index, sample and attempt, of which their keys are made; None likewise.
  """
  if requests is not None:
    new = dataclasses.replace(new, key=_request_keys(seed, *requests.T))
  return jax.tree.map(lambda old, update: old.at[indices].set(update, mode="drop"), slots, new)


def end(slots: Slots, ended: jax.Array) -> Slots:
  """Ends the answers of the slots that are marked in bool [S]."""
  return dataclasses.replace(slots, active=slots.active & ~ended)


def _no_top_tokens(size: tuple[int, int], sampling: SamplingConfig | PerRequest) -> TopTokens | None:
  if not (isinstance(sampling, PerRequest) and sampling.top_logprobs):
    return None
  size = (*size, sampling.top_logprobs)
  return TopTokens(jnp.zeros(size, jnp.int32), jnp.zeros(size, jnp.float32))


def decode(
  graph: nnx.GraphDef,
  params: nnx.State,
  cache: Cache,
  slots: Slots,
  reads: Reads,
  *,
  steps: int,
  sampling: SamplingConfig | PerRequest,
) -> tuple[Cache, Slots, Drawn, jax.Array]:
  """Draws up to `steps` tokens in every active slot, in one loop on the device.

  The loop ends early when no slot is active. A token's random numbers depend only on its request's key and on the
  number of tokens drawn before it.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    cache: all pages.
    slots: state of all S slots.
    reads: which pages these steps read and write.
    steps: cap on the tokens to draw per slot.
    sampling: temperature, truncation, stop ids; or stop ids alone, where the slots' state has the rest.

  Returns:
    (cache, slots, what was drawn, bool [S] that is True where a slot is still active).
  """
  model = nnx.merge(graph, params)
  stop_ids = jnp.asarray(sampling.stop_ids, jnp.int32)
  size = (steps, slots.token.shape[0])
  drawn = Drawn(
    tokens=jnp.zeros(size, jnp.int32),
    sampler_logprobs=jnp.zeros(size, jnp.float32),
    drawn_logprobs=jnp.zeros(size, jnp.float32),
    active=jnp.zeros(size, bool),
    steps=jnp.int32(0),
    top=_no_top_tokens(size, sampling),
  )

  def more(carry):
    _, slots, drawn = carry
    return (drawn.steps < steps) & jnp.any(slots.active)

  def one(carry):
    cache, slots, drawn = carry
    attend = paged(reads, slots.drawn, slots.active)
    hidden, cache = model(slots.token[:, None], slots.position[:, None], attend, cache)
    logits = model.logits(hidden[:, 0])
    keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(slots.key, impl=_GENERATOR), slots.drawn)
    uniforms = jax.vmap(lambda key: jax.random.uniform(key, (2,), jnp.float32))(keys)
    if isinstance(sampling, PerRequest):
      own = draw_rows(logits, uniforms, slots.sampling, slots.active, sampling.top_logprobs)
      tokens, sampler_logprobs, drawn_logprobs, top = own
    else:
      (tokens, sampler_logprobs, drawn_logprobs), top = draw(logits, uniforms, sampling), None
    stopped = jnp.any(tokens[:, None] == stop_ids[None, :], axis=-1) | (slots.drawn + 1 >= slots.limit)
    at = drawn.steps
    drawn = Drawn(
      tokens=drawn.tokens.at[at].set(tokens),
      sampler_logprobs=drawn.sampler_logprobs.at[at].set(sampler_logprobs),
      drawn_logprobs=drawn.drawn_logprobs.at[at].set(drawn_logprobs),
      active=drawn.active.at[at].set(slots.active),
      steps=at + 1,
      top=jax.tree.map(lambda all_steps, new: all_steps.at[at].set(new), drawn.top, top),
    )
    going_on = slots.active & ~stopped
    advance = going_on.astype(jnp.int32)
    slots = Slots(
      token=jnp.where(going_on, tokens, slots.token),
      position=slots.position + advance,
      drawn=slots.drawn + advance,
      limit=slots.limit,
      active=going_on,
      key=slots.key,
      sampling=slots.sampling,
    )
    return cache, slots, drawn

  cache = [(*keys, cleared(values, reads, slots.drawn, slots.active)) for *keys, values in cache]
  cache, slots, drawn = jax.lax.while_loop(more, one, (cache, slots, drawn))
  # The host gets an array of its own: if it had a view of the slots' memory, a CPU could not donate it any more.
  return cache, slots, drawn, jnp.copy(slots.active)
