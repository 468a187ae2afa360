"""The programs that the engine runs on the device: prefill, fill a slot, go on with an answer, decode.

Every shape is fixed by the engine's settings or by one request alone (its length bucket), never by what else is in
flight: that is what makes a request's tokens and logprobs bit-identical in any slot, order and company.

W prefill width, Tb bucket length, S slots, L cache length, K key/value heads, H head dimension.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax.models import attention
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.sampling.draw import SamplingConfig, draw

# Per layer a pair: keys and values, each [rows, K, length, H] (`models.attention.cache_layout`).
Cache = list[tuple[jax.Array, jax.Array]]

# Named here, so that jax's global default cannot change the draws: other generators' bits depend on their neighbours.
_GENERATOR = "threefry2x32"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
  """What each of the S slots is doing.

  Attributes:
    token: int32 [S], the newest token, not yet in the cache.
    position: int32 [S], its position in prompt and answer.
    drawn: int32 [S], answer tokens drawn so far; numbers the request's random draws.
    limit: int32 [S], answer tokens that the request may have.
    active: bool [S], False in an empty slot.
    key: uint32 [S, 2], the request's own random key.
  """

  token: jax.Array
  position: jax.Array
  drawn: jax.Array
  limit: jax.Array
  active: jax.Array
  key: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Drawn:
  """What one dispatch drew, n steps by S slots; rows from `steps` on were not run.

  Attributes:
    tokens: int32 [n, S].
    sampler_logprobs: float32 [n, S], untruncated, at the sampling temperature.
    drawn_logprobs: float32 [n, S], of the distribution drawn from.
    active: bool [n, S], True where the slot really drew.
    steps: int32 [], decode steps that were run.
  """

  tokens: jax.Array
  sampler_logprobs: jax.Array
  drawn_logprobs: jax.Array
  active: jax.Array
  steps: jax.Array


def empty_cache(config: TransformerConfig, rows: int, length: int) -> Cache:
  """Zeros of the cache's shape, [rows, K, length, H] twice a layer."""
  shape = (rows, config.num_kv_heads, length, config.head_dim)
  return [
    (jnp.zeros(shape, config.compute_dtype), jnp.zeros(shape, config.compute_dtype)) for _ in range(config.num_layers)
  ]


def empty_slots(slots: int) -> Slots:
  """No slot at work."""
  zeros = jnp.zeros((slots,), jnp.int32)
  key = jnp.zeros((slots, 2), jnp.uint32)
  return Slots(token=zeros, position=zeros, drawn=zeros, limit=zeros, active=zeros.astype(bool), key=key)


def prefill(graph: nnx.GraphDef, params: nnx.State, prefixes: Cache, tokens: jax.Array, rows: jax.Array) -> Cache:
  """Computes the keys and values of prompts and keeps them in the pool of prefixes.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    prefixes: the pool, of length Tp.
    tokens: int32 [W, Tb], prompts padded on the right to their bucket.
    rows: int32 [W], where in the pool to put each; out of range drops it (a prefill that is not full).

  Returns:
    The pool. Entries behind a prompt's length are those of padding and are overwritten or never attended to.
  """
  return _put(prefixes, rows, _keys_and_values(graph, params, tokens))


def _keys_and_values(graph: nnx.GraphDef, params: nnx.State, tokens: jax.Array) -> Cache:
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  _, kept = nnx.merge(graph, params)(tokens, positions, attention.causal(keep=True))
  return [attention.cache_layout(keys, values) for keys, values in kept]


def _put(cache: Cache, rows: jax.Array, kept: Cache) -> Cache:
  """Writes the beginning of some rows, as much as they hold; rows out of range are dropped."""
  width = min(kept[0][0].shape[2], cache[0][0].shape[2])
  return [
    tuple(old.at[rows, :, :width].set(new[:, :, :width], mode="drop") for old, new in zip(layer, layer_kept))
    for layer, layer_kept in zip(cache, kept)
  ]


def _request_keys(seed: jax.Array, prompts: jax.Array, samples: jax.Array, attempts: jax.Array) -> jax.Array:
  """Random keys uint32 [R, 2] from seed, prompt index, sample index and attempt, each int32 [R]."""

  def one(prompt, sample, attempt):
    key = jax.random.key(seed, impl=_GENERATOR)
    for data in (prompt, sample, attempt):
      key = jax.random.fold_in(key, data)
    return jax.random.key_data(key)

  return jax.vmap(one)(prompts, samples, attempts)


def fill(
  cache: Cache,
  slots: Slots,
  prefixes: Cache,
  indices: jax.Array,
  sources: jax.Array,
  new: Slots,
  seed: jax.Array,
  requests: jax.Array,
) -> tuple[Cache, Slots]:
  """Gives slots to requests: copies their prompt's keys and values in and sets their state.

  Args:
    cache: the slots' cache, S rows of length L.
    slots: state of all S slots.
    prefixes: the pool of prompts' keys and values, of length Tp.
    indices: int32 [R], slots to fill; out of range is ignored.
    sources: int32 [R], the pool's row for each.
    new: state of the R requests; their keys are made here.
    seed: uint32 [], of the engine.
    requests: int32 [R, 3], prompt index, sample and attempt.

  Returns:
    (cache, slots).
  """
  cache = _put(cache, indices, [(keys[sources], values[sources]) for keys, values in prefixes])
  return cache, _begin(slots, indices, new, seed, requests)


def resume(
  graph: nnx.GraphDef,
  params: nnx.State,
  cache: Cache,
  slots: Slots,
  tokens: jax.Array,
  indices: jax.Array,
  new: Slots,
  seed: jax.Array,
  requests: jax.Array,
) -> tuple[Cache, Slots]:
  """Gives slots to answers that are under way: computes the keys and values of prompt and answer so far.

  Those that decoding left behind, under these parameters or others, are not to be had: they differ in bits.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    cache: the slots' cache, S rows of length L.
    slots: state of all S slots.
    tokens: int32 [W, Tb], prompts and answers without their newest token, padded on the right to their bucket.
    indices: int32 [W], slots to fill; out of range is ignored.
    new: state of the W requests; their keys are made here.
    seed: uint32 [], of the engine.
    requests: int32 [W, 3], prompt index, sample and attempt.

  Returns:
    (cache, slots).
  """
  cache = _put(cache, indices, _keys_and_values(graph, params, tokens))
  return cache, _begin(slots, indices, new, seed, requests)


def _begin(slots: Slots, indices: jax.Array, new: Slots, seed: jax.Array, requests: jax.Array) -> Slots:
  """Sets the state of some slots, with the keys of their requests; indices out of range are dropped."""
  new = dataclasses.replace(new, key=_request_keys(seed, *requests.T))
  return jax.tree.map(lambda old, update: old.at[indices].set(update, mode="drop"), slots, new)


def decode(
  graph: nnx.GraphDef, params: nnx.State, cache: Cache, slots: Slots, *, steps: int, sampling: SamplingConfig
) -> tuple[Cache, Slots, Drawn]:
  """Draws up to `steps` tokens in every active slot, in one loop on the device; ends early when all are done.

  The random numbers of a token depend on its request's key and on how many tokens were drawn before it, only.

  Args:
    graph: graph of the unstacked transformer.
    params: its parameters.
    cache: the slots' cache, S rows of length L.
    slots: state of all S slots.
    steps: most tokens to draw per slot.
    sampling: temperature, truncation, stop ids.

  Returns:
    (cache, slots, what was drawn).
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
    hidden, cache = model(slots.token[:, None], slots.position[:, None], attention.cached(slots.position), cache)
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
    # A slot that is done, or empty, stays at its position, which keeps its writes to the cache in bounds.
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

  return jax.lax.while_loop(more, one, (cache, slots, drawn))
