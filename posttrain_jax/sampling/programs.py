"""Computes what the engine needs on the device: prefill, fill slots, recompute resumed answers, decode.

Every shape is fixed by the engine's sizes or by one request alone (its length bucket), never by the other requests.
This is what makes a request's tokens and logprobs the same bits in any slot, in any order and next to any others.

Keys and values lie in three places:
- those of prompts that were just prefilled, in the W rows of the pool, from where `fill` copies them;
- those of a prompt whose answers run, in one of the P rows of the prefixes, which all its answers read;
- those of an answer, in its slot's row of the cache.

W prefill width, Tb bucket length, S slots, L cache length, P rows of prefixes, T answers that share one, K key/value
heads, H head dimension.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax.models import attention
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
    pool: W rows of length Lp.
    tokens: int32 [W, Tb], prompts padded on the right to their bucket.
    rows: int32 [W], the pool's row for each prompt; rows out of range are dropped (a prefill that is not full).

  Returns:
    The pool. Entries after a prompt's length come from padding; they are never attended to.
  """
  return _put(pool, rows, _keys_and_values(graph, params, tokens))


def _keys_and_values(graph: nnx.GraphDef, params: nnx.State, tokens: jax.Array) -> Cache:
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  _, kept = nnx.merge(graph, params)(tokens, positions, attention.causal(keep=True))
  return [attention.cache_layout(keys, values) for keys, values in kept]


def _put(cache: Cache, rows: jax.Array, kept: Cache) -> Cache:
  """Writes to the beginning of some rows as much as fits; drops rows out of range."""
  width = min(kept[0][0].shape[2], cache[0][0].shape[2])
  return [
    tuple(old.at[rows, :, :width].set(new[:, :, :width], mode="drop") for old, new in zip(layer, layer_kept))
    for layer, layer_kept in zip(cache, kept)
  ]


def _request_keys(seed: jax.Array, prompts: jax.Array, samples: jax.Array, attempts: jax.Array) -> jax.Array:
  """Makes keys uint32 [R, 2] from the seed and prompt, sample, attempt, each int32 [R]."""

  def one(prompt, sample, attempt):
    key = jax.random.key(seed, impl=_GENERATOR)
    for data in (prompt, sample, attempt):
      key = jax.random.fold_in(key, data)
    return jax.random.key_data(key)

  return jax.vmap(one)(prompts, samples, attempts)


def fill(
  prefixes: Cache,
  slots: Slots,
  pool: Cache,
  rows: jax.Array,
  sources: jax.Array,
  indices: jax.Array,
  new: Slots,
  seed: jax.Array,
  requests: jax.Array,
) -> tuple[Cache, Slots]:
  """Starts requests in slots: copies prompts to the prefixes and sets the slots' state.

  Args:
    prefixes: P rows of length Lp.
    slots: state of all S slots.
    pool: keys and values of prefilled prompts, W rows of length Lp.
    rows: int32 [P], rows of `prefixes` to write; those out of range are ignored.
    sources: int32 [P], the pool's row to copy to each.
    indices: int32 [R], slots to fill; those out of range are ignored.
    new: state of the R requests; their keys are made here.
    seed: uint32 [], of the engine.
    requests: int32 [R, 3], prompt index, sample and attempt.

  Returns:
    (prefixes, slots).
  """
  prefixes = _put(prefixes, rows, [(keys[sources], values[sources]) for keys, values in pool])
  return prefixes, _begin(slots, indices, new, seed, requests)


def recompute(
  graph: nnx.GraphDef,
  params: nnx.State,
  cache: Cache,
  tokens: jax.Array,
  starts: jax.Array,
  indices: jax.Array,
) -> Cache:
  """Computes the keys and values of resumed answers and writes them to their slots.

  Keys and values that decoding made before the interruption are never used again, even under the same parameters:
  they differ in bits from these.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    cache: the slots' cache, S rows of length L.
    tokens: int32 [W, Tb], prompts and answers without their newest token, padded on the right to their bucket.
    starts: int32 [W], position of the prompt's last token, the first one that lies in the slot's row.
    indices: int32 [W], slots to fill; those out of range are ignored.

  Returns:
    The cache.
  """
  kept = _keys_and_values(graph, params, tokens)
  length = min(cache[0][0].shape[2], tokens.shape[1])
  places = (starts[:, None] + jnp.arange(length)[None])[
    :, None, :, None
  ]  # those after the answer are overwritten later
  own = [tuple(jnp.take_along_axis(x, places, axis=2, mode="clip") for x in layer) for layer in kept]
  return _put(cache, indices, own)


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
  prefixes: Cache,
  *,
  steps: int,
  sampling: SamplingConfig,
  share: int,
) -> tuple[Cache, Slots, Drawn, jax.Array]:
  """Draws up to `steps` tokens in every active slot, in one loop on the device.

  The loop ends early when no slot is active. A token's random numbers depend only on its request's key and on the
  number of tokens drawn before it.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    cache: the slots' cache, S rows of length L.
    slots: state of all S slots.
    prefixes: keys and values of the prompts, P rows of length Lp.
    steps: cap on the tokens to draw per slot.
    sampling: temperature, truncation, stop ids.
    share: T, answers that read one row of the prefixes.

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
    before = attention.Prefixes(
      lengths=slots.position - slots.drawn,
      lanes=jnp.where(slots.active, slots.lane, prefixes[0][0].shape[0] * share),
      share=share,
    )
    layers = [(*own, *shared) for own, shared in zip(cache, prefixes)]
    attend = attention.cached(slots.drawn, before)
    hidden, layers = model(slots.token[:, None], slots.position[:, None], attend, layers)
    cache = [tuple(layer[:2]) for layer in layers]
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
    # A finished or empty slot keeps its position, so that its writes to the cache stay in bounds.
    going_on = slots.active & ~stopped
    advance = going_on.astype(jnp.int32)
    slots = Slots(
      token=jnp.where(going_on, tokens, slots.token),
      position=slots.position + advance,
      drawn=slots.drawn + advance,
      lane=slots.lane,
      limit=slots.limit,
      active=going_on,
      key=slots.key,
    )
    return cache, slots, drawn

  cache, slots, drawn = jax.lax.while_loop(more, one, (cache, slots, drawn))
  # The host gets an array of its own: if it had a view of the slots' memory, a CPU could not donate it any more.
  return cache, slots, drawn, jnp.copy(slots.active)
