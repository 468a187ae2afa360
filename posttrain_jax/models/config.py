"""Describes a decoder-only transformer: one record covers Llama, SmolLM2, Qwen2.5 and Qwen3."""

import dataclasses
import enum

from posttrain_jax.types import InputError


class Remat(enum.StrEnum):
  """Names what the forward pass keeps; the backward pass recomputes the rest."""

  NONE = "none"  # keep every activation
  DOTS = "dots"  # keep the outputs of matrix products with a parameter and, on TPU, attention's output
  ATTENTION = "attention"  # keep a layer's input and, on TPU, attention's output: the kernel runs once. Elsewhere: FULL
  FULL = "full"  # keep a layer's input only
  HOST = "host"  # keep what ATTENTION keeps, in the host's memory: the devices fetch a layer's part when they need it


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """Describes how Llama 3 stretches rotary frequencies to longer contexts.

  Source: Llama 3.1's model card; `rope_type` is "llama3" in config.json.

  Attributes:
    factor: how many times longer the context becomes.
    low_frequency_factor: wavelengths above `original_length / low_frequency_factor` are stretched by `factor`.
    high_frequency_factor: wavelengths below `original_length / high_frequency_factor` stay as they are.
    original_length: context length in tokens before stretching.
  """

  factor: float
  low_frequency_factor: float
  high_frequency_factor: float
  original_length: int


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Holds the sizes and options of one transformer.

  Attributes:
    vocab_size: V.
    num_layers: number of blocks.
    embed_dim: D, width of the residual stream.
    mlp_dim: F, hidden width of the gated MLP.
    num_heads: N query heads.
    num_kv_heads: K key/value heads; divides N (grouped-query attention).
    head_dim: H, not necessarily D / N.
    rope_theta: base of the rotary frequencies.
    rope_scaling: how these frequencies are stretched; None: not at all.
    norm_epsilon: added to the mean square inside RMSNorm.
    qkv_bias: biases on the query, key and value projections (Qwen2.5).
    qk_norm: RMSNorm over each query and key head before rotation (Qwen3).
    tied: the output head is the transposed embedding table.
    compute_dtype: "float32" or "bfloat16": dtype of activations and of the weights in products. The master copy is
      float32.
    remat: what the forward pass keeps for the backward pass.
    unroll: layers of the scan that are unrolled together.
    stacked: True: layers are one stack under `lax.scan` (the learner's layout). False: they are a list in a Python loop
      (the sampler's layout, as decoding is faster without slicing weights out of a stack at every token).
    scalar_head: each token gets a float32 score in place of logits: a reward or value model (`models.heads`).
    absent_ids: ranges [start, end) of ids that the tokeniser does not have, such as those that pad the embeddings. They
      have probability 0 for sampler and learner alike.
    max_position_embeddings: longest context in tokens that the model was made for; None: not known.
    beyond_context: True lets texts be longer than `max_position_embeddings`.
  """

  vocab_size: int
  num_layers: int
  embed_dim: int
  mlp_dim: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  norm_epsilon: float = 1e-5
  qkv_bias: bool = False
  qk_norm: bool = False
  tied: bool = False
  compute_dtype: str = "float32"
  remat: Remat = Remat.NONE
  unroll: int = 1
  stacked: bool = True
  scalar_head: bool = False
  absent_ids: tuple[tuple[int, int], ...] = ()
  max_position_embeddings: int | None = None
  beyond_context: bool = False

  def __post_init__(self):
    """Raises InputError if a size is below 1 or does not fit the others."""
    for name in ("vocab_size", "num_layers", "embed_dim", "mlp_dim", "num_heads", "num_kv_heads", "head_dim", "unroll"):
      if getattr(self, name) < 1:
        raise InputError(f"model.{name}: {getattr(self, name)}, expected at least 1")
    if self.num_heads % self.num_kv_heads:
      raise InputError(f"model.num_heads: {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
    if self.head_dim % 2:
      raise InputError(f"model.head_dim: {self.head_dim} is odd; rotary embeddings turn pairs of dimensions")
    if self.max_position_embeddings is not None and self.max_position_embeddings < 1:
      raise InputError(f"model.max_position_embeddings: {self.max_position_embeddings}, expected at least 1, or None")
    if self.compute_dtype not in ("float32", "bfloat16"):
      raise InputError(f"model.compute_dtype: {self.compute_dtype!r}, expected 'float32' or 'bfloat16'")

  def check_context(self, length: int, what: str) -> None:
    """Refuses texts that are longer than the model's context.

    Args:
      length: their most tokens.
      what: names the texts, for the message.

    Raises:
      InputError: if they are longer and `beyond_context` is False.
    """
    if self.max_position_embeddings is not None and length > self.max_position_embeddings and not self.beyond_context:
      raise InputError(
        f"{what}: {length} tokens are more than the model's context of {self.max_position_embeddings} "
        "(max_position_embeddings); expected no more, or beyond_context=True in the config's model section"
      )

  @property
  def num_params(self) -> int:
    """Returns the number of parameters."""
    d, h = self.embed_dim, self.head_dim
    attention = d * h * (2 * self.num_heads + 2 * self.num_kv_heads)
    attention += h * (self.num_heads + 2 * self.num_kv_heads) * self.qkv_bias + 2 * h * self.qk_norm
    block = attention + 3 * d * self.mlp_dim + 2 * d
    head = d + 1 if self.scalar_head else self.vocab_size * d * (not self.tied)
    return self.vocab_size * d + self.num_layers * block + d + head
