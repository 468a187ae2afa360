"""Floating-point operations that a model's arithmetic needs, counted from its sizes: 2 for a multiply and an add.

Only what has to be computed: attention to earlier tokens and not to masked ones, nothing twice. So a compiler that
recomputes activations or multiplies masked scores does more, and 6 N D is this without attention.
"""

from posttrain_jax.models.config import TransformerConfig


def kernels(config: TransformerConfig) -> list[tuple[int, int, int]]:
  """(inputs, outputs, how many) of every matrix in the layers that hidden states are multiplied with."""
  d, f, h, layers = config.embed_dim, config.mlp_dim, config.head_dim, config.num_layers
  return [
    (d, config.num_heads * h, layers),  # query
    (d, config.num_kv_heads * h, 2 * layers),  # key, value
    (config.num_heads * h, d, layers),  # out
    (d, f, 2 * layers),  # gate, up
    (f, d, layers),  # down
  ]


def forward(config: TransformerConfig, *, tokens: int, pairs: int, logits: int) -> int:
  """FLOPs of a forward pass; a backward pass has twice as many.

  Args:
    config: the transformer.
    tokens: tokens that run through the layers.
    pairs: pairs (query token, key token) that attend.
    logits: tokens whose logits are made.
  """
  weights = sum(inputs * outputs * count for inputs, outputs, count in kernels(config))
  attention = 4 * config.num_layers * config.num_heads * config.head_dim * pairs
  return 2 * weights * tokens + attention + 2 * config.embed_dim * config.vocab_size * logits


def groups(config: TransformerConfig, *, prompts: int, prompt_length: int, answers: int, answer_length: int) -> int:
  """FLOPs of a forward pass over prompts, each with its answers behind it (`models.forward.answer_hidden`).

  Args:
    config: the transformer; with a scalar head there are no logits.
    prompts: number of prompts.
    prompt_length: of each.
    answers: of each prompt.
    answer_length: of each.
  """
  prefix = prompt_length - 1
  return forward(
    config,
    tokens=prompts * (prefix + answers * answer_length),
    pairs=prompts * (causal(prefix) + answers * (prefix * answer_length + causal(answer_length))),
    logits=0 if config.scalar_head else prompts * answers * answer_length,
  )


def causal(length: int) -> int:
  """Pairs of tokens of a sequence in which each attends to itself and to those before it."""
  return length * (length + 1) // 2
