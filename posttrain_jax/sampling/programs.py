"""Computes what the engine needs on the device: prefill, fill slots, recompute resumed answers, decode.

Every shape is fixed by the engine's sizes or by one request alone (its length bucket), never by the other requests.
This is what makes a request's tokens and logprobs the same bits in any slot, in any order and next to any others.

Keys and values lie in pages (`models.paged_attention`), in two caches:
- those of prompts that were just prefilled, in the W rows of the pool, from where `fill` copies them;
- those of running answers and their prompts, in pages of the one big cache.

W prefill width, Tb bucket length, S slots, K key/value heads, H head dimension.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from posttrain_jax.models import attention
from posttrain_jax.models.paged_attention import Reads, paged, stored
from posttrain_jax.sampling.draw import SamplingConfig, draw
from posttrain_jax.sampling.state import Cache, Drawn, Slots

# Named here, so that jax's global default cannot change the draws. With other generators a row's random bits depend on
# the other rows that are drawn in the same call.
_GENERATOR = "threefry2x32"


def prefill(graph: nnx.GraphDef, params: nnx.State, pool: Cache, tokens: jax.Array, rows: jax.Array) -> Cache:
  """Computes the keys and values of prompts and writes them to the pool.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    pool: W rows of equally many pages.
    tokens: int32 [W, Tb], prompts padded on the right to their bucket.
    rows: int32 [W], the pool's row for each prompt; rows out of range are dropped (a prefill that is not full).

  Returns:
    The pool. Entries after a prompt's length come from padding; they are never attended to.
  """
  width, page = len(rows), pool[0][0].shape[2]
  each = pool[0][0].shape[0] // width  # pages of a row; a bucket is longer where the last prompt token begins a page

  def write(old, new):
    new = _in_pages(new, page)[:, :each]
    return old.reshape(width, each, *old.shape[1:]).at[rows, : new.shape[1]].set(new, mode="drop").reshape(old.shape)

  return _each(write, pool, _keys_and_values(graph, params, tokens, pool))


def _keys_and_values(graph: nnx.GraphDef, params: nnx.State, tokens: jax.Array, cache: Cache) -> Cache:
  """Returns each layer's keys and values [W, Tb, K, H], arranged like a cache."""
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  _, kept = nnx.merge(graph, params)(tokens, positions, attention.causal(keep=True))
  return [stored(*arrays, layer) for arrays, layer in zip(kept, cache)]


def _in_pages(x: jax.Array, page: int) -> jax.Array:
  """Cuts keys or values [W, T, K, H] into pages [W, n, K, page, H]."""
  x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % page), (0, 0), (0, 0)))
  return rearrange(x, "w (n p) k h -> w n k p h", p=page)


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


def _request_keys(seed: jax.Array, prompts: jax.Array, samples: jax.Array, attempts: jax.Array) -> jax.Array:
  """Makes keys uint32 [R, 2] from the seed and prompt, sample, attempt, each int32 [R]."""

  def one(prompt, sample, attempt):
    key = jax.random.key(seed, impl=_GENERATOR)
    for data in (prompt, sample, attempt):
      key = jax.random.fold_in(key, data)
    return jax.random.key_data(key)

  return jax.vmap(one)(prompts, samples, attempts)


def fill(
  cache: Cache,
  slots: Slots,
  pool: Cache,
  pages: jax.Array,
  sources: jax.Array,
  indices: jax.Array,
  new: Slots,
  seed: jax.Array,
  requests: jax.Array,
) -> tuple[Cache, Slots]:
  """Starts requests in slots: copies prompts to their pages and sets the slots' state.

  Args:
    cache: all pages.
    slots: state of all S slots.
    pool: pages of prefilled prompts.
    pages: int32 [F], pages of `cache` to write; those out of range are ignored.
    sources: int32 [F], the pool's page to copy to each.
    indices: int32 [S], slots to fill; those out of range are ignored.
    new: state of the S requests; their keys are made here.
    seed: uint32 [], of the engine.
    requests: int32 [S, 3], prompt index, sample and attempt.

  Returns:
    (cache, slots).
  """
  return put(cache, pages, take(pool, sources)), _begin(slots, indices, new, seed, requests)


def recompute(
  graph: nnx.GraphDef, params: nnx.State, cache: Cache, tokens: jax.Array, starts: jax.Array, pages: jax.Array
) -> Cache:
  """Computes the keys and values of resumed answers and writes them to their pages.

  Keys and values that decoding made before `suspend` are never used again, even under the same parameters: they differ
  in bits from these.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    cache: all pages.
    tokens: int32 [W, Tb], prompts and answers without their newest token, padded on the right to their bucket.
    starts: int32 [W], position of the prompt's last token, the first one that lies in the answer's pages.
    pages: int32 [W, n], each answer's pages; those out of range are ignored.

  Returns:
    The cache.
  """
  page = cache[0][0].shape[2]
  # Entries after the answer are overwritten before they are read.
  places = (starts[:, None] + jnp.arange(pages.shape[1] * page)[None])[:, :, None, None]
  own = lambda x: _in_pages(jnp.take_along_axis(x, places, axis=1, mode="clip"), page)  # noqa: E731
  kept = _each(lambda x: own(x).reshape(-1, *own(x).shape[2:]), _keys_and_values(graph, params, tokens, cache))
  return put(cache, pages.ravel(), kept)


def _begin(slots: Slots, indices: jax.Array, new: Slots, seed: jax.Array, requests: jax.Array) -> Slots:
  """Sets the state and keys of some slots; indices out of range are dropped."""
  new = dataclasses.replace(new, key=_request_keys(seed, *requests.T))
  return jax.tree.map(lambda old, update: old.at[indices].set(update, mode="drop"), slots, new)


def end(slots: Slots, ended: jax.Array) -> Slots:
  """Ends the answers of the slots that are marked in bool [S]."""
  return dataclasses.replace(slots, active=slots.active & ~ended)


def decode(
  graph: nnx.GraphDef,
  params: nnx.State,
  cache: Cache,
  slots: Slots,
  reads: Reads,
  *,
  steps: int,
  sampling: SamplingConfig,
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
    sampling: temperature, truncation, stop ids.

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
    tokens, sampler_logprobs, drawn_logprobs = draw(logits, uniforms, sampling)
    stopped = jnp.any(tokens[:, None] == stop_ids[None, :], axis=-1) | (slots.drawn + 1 >= slots.limit)
    at = drawn.steps
    drawn = Drawn(
      tokens=drawn.tokens.at[at].set(tokens),
      sampler_logprobs=drawn.sampler_logprobs.at[at].set(sampler_logprobs),
      drawn_logprobs=drawn.drawn_logprobs.at[at].set(drawn_logprobs),
      active=drawn.active.at[at].set(slots.active),
      steps=at + 1,
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
    )
    return cache, slots, drawn

  cache, slots, drawn = jax.lax.while_loop(more, one, (cache, slots, drawn))
  # The host gets an array of its own: if it had a view of the slots' memory, a CPU could not donate it any more.
  return cache, slots, drawn, jnp.copy(slots.active)
