"""Tests that groups keep their bits between processes; `two_process_test` tests how processes share."""

import numpy as np

from posttrain_jax.rollouts import multi_process
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import Answer, FinishReason, Group, Prompt


def answer(length, reason, generated=None):
  rng = np.random.default_rng(length)
  logprobs = [-rng.random(length).astype(np.float32) for _ in range(2)]
  tokens = rng.integers(0, 2**31 - 1, size=length).astype(np.int32)
  return Answer(tokens, *logprobs, np.full((length,), 7, np.int32), reason, generated)


def judged():
  return Group(
    prompt=Prompt(3, (1, 2), {"answer": "4", "level": 1}, attempt=2),
    answers=(
      answer(5, FinishReason.EOS),
      answer(0, FinishReason.CANCELLED),
      answer(3, FinishReason.LENGTH, np.array([True, False, True])),
    ),
    texts=("a", "", "é\n"),
    components={"correct": np.array([1, np.nan, 1 / 3], np.float32)},
    accuracy=np.array([1, 0, 1 / 3], np.float32),
    rewards=np.array([0.1, -np.inf, 1e-30], np.float32),
    valid=np.array([True, False, True]),
  )


def test_one_process_makes_all():
  prompts = [Prompt(i, (1,), {}) for i in range(3)]
  asked = []
  assert multi_process.shared(prompts, lambda own: asked.append(own) or ["made"]) == ["made"] and asked == [prompts]
  stats = EngineStats(generated_tokens=3)
  assert multi_process.add_up(stats) is stats
