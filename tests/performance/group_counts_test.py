"""Tests the counts of drawn groups by hand.

A prompt of 3 tokens has answers of 1 and 2, one of 2 tokens has answers of 4 and 4.
"""

import numpy as np

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.counts import Pass, PassKind
from posttrain_jax.performance.group_counts import rollout_pass, update_pass
from posttrain_jax.types import Answer, FinishReason, Group, Prompt

MODEL = TransformerConfig(vocab_size=8, num_layers=1, embed_dim=4, mlp_dim=4, num_heads=1, num_kv_heads=1, head_dim=4)


def answer(length):
  numbers = np.zeros(length, np.float32)
  return Answer(numbers.astype(np.int32), numbers, numbers, numbers.astype(np.int32), FinishReason.LENGTH)


def group(prompt, *lengths):
  return Group(Prompt(0, (0,) * prompt, row={}), tuple(map(answer, lengths)))


GROUPS = [group(3, 1, 2), group(2, 4, 4)]


def test_a_rollout():
  """A token of an answer is the only query of a step, and sees the prompt and what was drawn."""
  pairs = (1 * 3 + 1) + (2 * 3 + 1 + 2) + 2 * (4 * 2 + 1 + 2 + 3 + 4)
  # A prompt's keys are read once a step for both answers: in 2 steps of the first group, in 4 of the second.
  read = 2 * 3 + 1 + (1 + 2) + 4 * 2 + 2 * (1 + 2 + 3 + 4)
  expected = Pass(MODEL, PassKind.SAMPLE, tokens=11, pairs=pairs, logits=11, parts=8, cache_tokens=read / 8)
  assert rollout_pass(MODEL, GROUPS, decode_steps=8) == expected


def test_an_update():
  """The prompts without their last tokens run once; an answer begins with that token."""
  pairs = (1 + 2) + 2 * 3 + 1 + (1 + 2) + 1 + 1 * 8 + 2 * (1 + 2 + 3 + 4)
  assert update_pass(MODEL, GROUPS) == Pass(MODEL, PassKind.UPDATE, tokens=2 + 3 + 1 + 8, pairs=pairs, logits=11)
