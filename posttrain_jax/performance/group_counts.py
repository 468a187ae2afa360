"""Counts what the rollout of groups and an update on them need.

Only real tokens count. What an engine or a learner does for padding is its own.
"""

from collections.abc import Sequence

from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.counts import Pass, PassKind, as_update
from posttrain_jax.types import Group


def rollout_pass(model: TransformerConfig, groups: Sequence[Group], decode_steps: int) -> Pass:
  """Counts the decode steps in which groups were drawn; without prefill.

  Each step reads the tokens before every answer's last, and a prompt once for all its answers that still run.

  Args:
    model: the transformer.
    groups: what was drawn.
    decode_steps: in which all of them were drawn.
  """
  drawn = pairs = read = 0
  for group in groups:
    prompt, lengths = len(group.prompt.tokens), [int(length) for length in group.lengths]
    own = sum(flops.causal(length) for length in lengths)
    drawn += sum(lengths)
    pairs += own + prompt * sum(lengths)
    read += own + prompt * max(lengths)
  return Pass(
    model,
    PassKind.SAMPLE,
    tokens=drawn,
    pairs=pairs,
    logits=drawn,
    parts=decode_steps,
    cache_tokens=read / decode_steps,
  )


def update_pass(model: TransformerConfig, groups: Sequence[Group]) -> Pass:
  """Counts one update on groups.

  A prompt without its last token runs once for all its answers.
  """
  tokens = pairs = logits = 0
  for group in groups:
    prefix, lengths = len(group.prompt.tokens) - 1, [int(length) for length in group.lengths]
    answers = sum(lengths)
    tokens += prefix + answers
    pairs += flops.causal(prefix) + prefix * answers + sum(flops.causal(length) for length in lengths)
    logits += answers
  return as_update(Pass(model, PassKind.FORWARD, tokens=tokens, pairs=pairs, logits=logits))
