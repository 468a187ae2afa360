"""Lists sizes of public models, for programs that do not need their weights.

The sizes are those of the model's published config.json. `smol_4layer` is the first four layers of SmolLM2-135M: small
enough to time on two cores, and with the matrix widths and the vocabulary of a real model.
"""

import dataclasses
import functools

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.types import InputError

_SMOLLM2_135M = TransformerConfig(
  vocab_size=49_152,
  num_layers=30,
  embed_dim=576,
  mlp_dim=1536,
  num_heads=9,
  num_kv_heads=3,
  head_dim=64,
  rope_theta=100_000.0,
  tied=True,
)
_LLAMA_3_2_1B = TransformerConfig(
  vocab_size=128_256,
  num_layers=16,
  embed_dim=2048,
  mlp_dim=8192,
  num_heads=32,
  num_kv_heads=8,
  head_dim=64,
  rope_theta=500_000.0,
  tied=True,
)


_qwen2_5 = functools.partial(TransformerConfig, rope_theta=1_000_000.0, norm_epsilon=1e-6, qkv_bias=True)

SIZES = {
  "smol_4layer": dataclasses.replace(_SMOLLM2_135M, num_layers=4),
  "smollm2_135m": _SMOLLM2_135M,
  "llama3_2_1b": _LLAMA_3_2_1B,
  "qwen2_5_0_5b": _qwen2_5(
    vocab_size=151_936, num_layers=24, embed_dim=896, mlp_dim=4864, num_heads=14, num_kv_heads=2, head_dim=64, tied=True
  ),
  "qwen2_5_1_5b": _qwen2_5(
    vocab_size=151_936,
    num_layers=28,
    embed_dim=1536,
    mlp_dim=8960,
    num_heads=12,
    num_kv_heads=2,
    head_dim=128,
    tied=True,
  ),
  "qwen2_5_7b": _qwen2_5(
    vocab_size=152_064, num_layers=28, embed_dim=3584, mlp_dim=18_944, num_heads=28, num_kv_heads=4, head_dim=128
  ),
  "qwen2_5_32b": _qwen2_5(
    vocab_size=152_064, num_layers=64, embed_dim=5120, mlp_dim=27_648, num_heads=40, num_kv_heads=8, head_dim=128
  ),
}


def sizes(name: str) -> TransformerConfig:
  """Returns the sizes of a model.

  Raises:
    InputError: if no model has this name.
  """
  if name not in SIZES:
    raise InputError(f"model: {name!r}, expected one of {', '.join(SIZES)}")
  return SIZES[name]
