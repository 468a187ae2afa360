"""Counts what a program has to do.

These are tokens, pairs in attention, micro-batches or decode steps, live cache tokens, and bytes that are moved. They
come from the work, as the compiler of a program does not know how often its loops run.
"""

import dataclasses
import enum

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16")
import numpy as np

from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig


class PassKind(enum.Enum):
  """Names what a program does with a model's weights."""

  UPDATE = enum.auto()  # a forward pass, a backward pass of twice its products, and the optimiser's update
  FORWARD = enum.auto()  # one pass, weights split over `fsdp` and `tensor`
  SAMPLE = enum.auto()  # one pass, weights split over `tensor` alone


@dataclasses.dataclass(frozen=True)
class Pass:
  """Describes what one call of a program has to do, on all chips together.

  Attributes:
    model: the transformer.
    kind: what is done with its weights.
    tokens: tokens that run through the layers.
    pairs: pairs (query token, key token) in attention.
    logits: tokens whose logits are made.
    parts: how often all weights are needed: micro-batches of an update, decode steps of a dispatch.
    cache_tokens: tokens whose keys and values attention reads from a cache, in each part. Programs read whole pages.
  """

  model: TransformerConfig
  kind: PassKind
  tokens: int
  pairs: int
  logits: int
  parts: int = 1
  cache_tokens: float = 0

  @property
  def itemsize(self) -> int:
    """Returns the bytes of a number in compute dtype."""
    return np.dtype(self.model.compute_dtype).itemsize

  @property
  def cache_bytes_of_token(self) -> int:
    """Returns the bytes of a token's keys and values in all layers."""
    return 2 * self.model.num_layers * self.model.num_kv_heads * self.model.head_dim * self.itemsize

  @property
  def weights(self) -> int:
    """Returns the number of weights that hidden states are multiplied with."""
    head = 0 if self.model.scalar_head else self.model.embed_dim * self.model.vocab_size
    return head + sum(inputs * outputs * count for inputs, outputs, count in flops.kernels(self.model))

  @property
  def passes(self) -> int:
    """Returns the forward passes whose products cost as much: 3 for an update, else 1."""
    return 3 if self.kind is PassKind.UPDATE else 1

  @property
  def flops(self) -> int:
    """Returns the FLOPs of a call."""
    return self.passes * flops.forward(self.model, tokens=self.tokens, pairs=self.pairs, logits=self.logits)


def group_pass(
  model: TransformerConfig, *, prompts: int, prompt_length: int, answers: int, answer_length: int, parts: int = 1
) -> Pass:
  """Counts a forward pass over groups.

  A prompt without its last token runs once for all its answers.

  Args:
    model: the transformer; with a scalar head there are no logits.
    prompts: number of prompts.
    prompt_length: tokens of each prompt.
    answers: number of answers to each prompt.
    answer_length: tokens of each answer.
    parts: micro-batches in which they run.
  """
  prefix = prompt_length - 1
  return Pass(
    model,
    PassKind.FORWARD,
    tokens=prompts * (prefix + answers * answer_length),
    pairs=prompts * (flops.causal(prefix) + answers * (prefix * answer_length + flops.causal(answer_length))),
    logits=0 if model.scalar_head else prompts * answers * answer_length,
    parts=parts,
  )


def as_update(forward: Pass) -> Pass:
  """Counts an optimiser's update over the batch of a forward pass."""
  return dataclasses.replace(forward, kind=PassKind.UPDATE)


@dataclasses.dataclass(frozen=True)
class Copy:
  """Describes a program that moves arrays without products, by its bytes on each chip.

  Attributes:
    moved: bytes that are read and bytes that are written.
    gathered: bytes of the arrays that a chip gathers over `fsdp`.
  """

  moved: float
  gathered: float = 0

  @property
  def flops(self) -> int:
    """Returns 0."""
    return 0
