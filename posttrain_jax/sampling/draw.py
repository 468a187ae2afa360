"""Draws tokens from logits, with temperature and truncation, from two uniforms a row.

A Gumbel draw needs one random number per vocabulary entry, which at 50k entries costs as much as a small model's
forward pass. This is an inverse-CDF draw in two stages instead. The vocabulary is cut into blocks. One uniform picks a
block by the blocks' sums, the other picks a token inside it, so running sums are needed over the blocks and over one
block only.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from posttrain_jax.types import InputError

_MASKED = -1e30
_SPLIT = 64  # most devices that a vocabulary is split over


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """Describes how tokens are drawn.

  Attributes:
    temperature: divides the logits; 0 takes the most likely token.
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the smallest set of most likely tokens whose probabilities add up to at least p; 1 keeps all.
    min_p: keep tokens at least min_p times as likely as the most likely one; 0 keeps all.
    stop_ids: drawing any of these ends the answer; may be empty.
    stop_strings: an answer ends with the token at which its text first has one of these; may be empty.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  stop_ids: tuple[int, ...] = ()
  stop_strings: tuple[str, ...] = ()

  def __post_init__(self):
    """Raises InputError on a value out of range."""
    for name, ok, expected in (
      ("temperature", self.temperature >= 0, "0 or more"),
      ("top_k", self.top_k >= 0, "0 (off) or more"),
      ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
      ("min_p", 0 <= self.min_p <= 1, "in [0, 1]"),
    ):
      if not ok:
        raise InputError(f"sampling.{name}: {getattr(self, name)}, expected {expected}")
    if "" in self.stop_strings:
      raise InputError(f"sampling.stop_strings: {list(self.stop_strings)}, expected none that is empty")

  def greedy(self) -> "SamplingConfig":
    """Returns the config that takes the most likely tokens and ends answers alike."""
    return SamplingConfig(temperature=0.0, stop_ids=self.stop_ids, stop_strings=self.stop_strings)

  @property
  def truncates(self) -> bool:
    """Says whether the distribution drawn from differs from the model's own at this temperature."""
    return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)


def truncate(scaled: jax.Array, config: SamplingConfig) -> jax.Array:
  """Masks the tokens that top-k, min-p and top-p leave out.

  They apply in that order, each to the tokens that the one before it kept. Ties with the last kept token are kept too,
  so the result does not depend on the order of the vocabulary.

  Args:
    scaled: float32 [S, V], logits divided by the temperature.
    config: what to keep.

  Returns:
    [S, V] with -1e30 at the tokens left out; the most likely token always stays.
  """
  if config.top_k and config.top_k < scaled.shape[-1]:
    smallest = jax.lax.top_k(scaled, config.top_k)[0][:, -1:]
    scaled = jnp.where(scaled >= smallest, scaled, _MASKED)
  if config.min_p > 0:
    floor = scaled.max(-1, keepdims=True) + math.log(config.min_p)
    scaled = jnp.where(scaled >= floor, scaled, _MASKED)
  if config.top_p < 1:
    falling = -jnp.sort(-scaled, axis=-1)
    weights = jnp.exp(falling - falling[:, :1])
    sums = jnp.cumsum(weights, axis=-1)
    # At least 1, since nothing comes before the first.
    kept = jnp.sum(sums - weights < config.top_p * sums[:, -1:], axis=-1, keepdims=True)
    smallest = jnp.take_along_axis(falling, kept - 1, axis=-1)
    scaled = jnp.where(scaled >= smallest, scaled, _MASKED)
  return scaled


def pick(weights: jax.Array, uniforms: jax.Array) -> jax.Array:
  """Picks an index [S] of weights [n, S] with probabilities in proportion to them.

  It is the first positive weight at which the running sum exceeds uniform [S] times the total. The weight itself has to
  be checked: running sums are added up as a tree, whose rounding can let them rise or fall at a weight of 0 (512 and
  more entries on CPU). If rounding makes the target equal to the total, no sum exceeds it; the last positive
  weight is taken then.
  """
  sums = jnp.cumsum(weights, axis=0)
  positive = weights > 0
  above = positive & (sums > uniforms[None] * sums[-1:])
  last = jnp.max(jnp.where(positive, jnp.arange(weights.shape[0])[:, None], 0), axis=0)
  return jnp.where(above.any(0), jnp.argmax(above, axis=0), last)


def in_blocks(x_VxS: jax.Array) -> jax.Array:
  """Cuts a vocabulary into blocks [n, W, S] with W about sqrt(V), padded with -inf."""
  vocab, rows = x_VxS.shape
  width = 1 << math.ceil(math.log2(vocab) / 2)
  # With many blocks their number is made a multiple of _SPLIT. Otherwise a vocabulary that is split over devices would
  # be gathered at every step.
  unit = width * (_SPLIT if vocab > width * _SPLIT else 1)
  padded = jnp.pad(x_VxS, ((0, -vocab % unit), (0, 0)), constant_values=-jnp.inf)
  return padded.reshape(-1, width, rows)


def take_at(x: jax.Array, index: jax.Array) -> jax.Array:
  """Takes from x [n, ..., S] the entries at index [S] of axis 0: [..., S]."""
  return jnp.take_along_axis(x, jnp.broadcast_to(index, (1, *x.shape[1:])), axis=0)[0]


def draw(logits: jax.Array, uniforms: jax.Array, config: SamplingConfig) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Draws one token a row.

  A token of probability 0 (a logit of -inf, or truncated away) is never drawn. Uniforms are multiples of 2^-23, so a
  block of tokens whose probabilities sum to less may never be drawn. Ties at temperature 0 go to the lowest id.

  Args:
    logits: float32 [S, V], finite or -inf, at least one of a row finite. They are transposed first, as
      `Transformer.logits` makes them from a tied table: each sum over the vocabulary then adds whole vectors of rows.
    uniforms: float32 [S, 2] in [0, 1), random numbers of each row.
    config: temperature and truncation.

  Returns:
    tokens: int32 [S].
    sampler_logprobs: float32 [S], log probability at the temperature, before truncation. A temperature of 0 has no such
      distribution; temperature 1 is reported then.
    drawn_logprobs: float32 [S], log probability in the distribution drawn from; 0 if that has one token only.
  """
  logits_VxS = logits.T
  largest = logits_VxS.max(0)

  def scale(x):  # subtract before dividing: dividing first would leave rounding errors of whole nats
    return (x - largest.reshape((1,) * (x.ndim - 1) + (-1,))) / (config.temperature or 1.0)

  if config.temperature == 0:
    blocks = in_blocks(logits_VxS)
    block = jnp.argmax(blocks.max(1), axis=0)
    tokens = (block * blocks.shape[1] + jnp.argmax(take_at(blocks, block), axis=0)).astype(jnp.int32)
    logprobs = -jnp.log(jnp.exp(scale(blocks)).sum(1).sum(0))
    return tokens, logprobs, jnp.zeros_like(logprobs)

  # Neither scaled logits nor weights are stored: computing those of one block again costs less.
  if config.truncates:
    blocks, weigh = in_blocks(truncate(scale(logits_VxS).T, config).T), jnp.exp
  else:
    blocks, weigh = in_blocks(logits_VxS), lambda x: jnp.exp(scale(x))
  totals = weigh(blocks).sum(1)
  block = pick(totals, uniforms[:, 0])
  inside = weigh(take_at(blocks, block))
  within = pick(inside, uniforms[:, 1])
  tokens = (block * blocks.shape[1] + within).astype(jnp.int32)

  chosen = scale(take_at(logits_VxS, tokens))
  drawn_logprobs = chosen - jnp.log(totals.sum(0))
  if not config.truncates:
    return tokens, drawn_logprobs, drawn_logprobs
  untruncated = jnp.exp(scale(in_blocks(logits_VxS))).sum(1).sum(0)
  return tokens, chosen - jnp.log(untruncated), drawn_logprobs
