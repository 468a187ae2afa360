"""Counts the floating-point operations (FLOPs) that a model's arithmetic needs, from its sizes.

A multiply and an add count 2. Only necessary work counts: attention to earlier tokens and not to masked ones, and
everything once. A program that recomputes activations or multiplies masked scores does more. Without attention, the
count of a forward and a backward pass is the usual 6 N D.
"""

from posttrain_jax.models.config import TransformerConfig


def kernels(config: TransformerConfig) -> list[tuple[int, int, int]]:
  """Lists (inputs, outputs, count) of the matrices in the layers that multiply hidden states."""
  d, f, h, layers = config.embed_dim, config.mlp_dim, config.head_dim, config.num_layers
  return [
    (d, config.num_heads * h, layers),  # query
    (d, config.num_kv_heads * h, 2 * layers),  # key, value
    (config.num_heads * h, d, layers),  # out
    (d, f, 2 * layers),  # gate, up
    (f, d, layers),  # down
  ]


def forward(config: TransformerConfig, *, tokens: int, pairs: int, logits: int) -> int:
  """Counts the FLOPs of a forward pass; a backward pass has twice as many.

  Args:
    config: the transformer.
    tokens: number of tokens that run through the layers.
    pairs: number of pairs (query token, key token) in attention.
    logits: number of tokens whose logits are made.
  """
  weights = sum(inputs * outputs * count for inputs, outputs, count in kernels(config))
  attention = 4 * config.num_layers * config.num_heads * config.head_dim * pairs
  return 2 * weights * tokens + attention + 2 * config.embed_dim * config.vocab_size * logits


def causal(length: int) -> int:
  """Counts the pairs (query token, key token) of causal attention over one sequence."""
  return length * (length + 1) // 2
