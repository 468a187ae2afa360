"""Makes answers and judged groups by hand, for tests of what comes after the engine."""

import numpy as np

from posttrain_jax.types import Answer, FinishReason, Group, Prompt


def answer(tokens, *, reason=FinishReason.EOS, version=0, generated=None) -> Answer:
  """Makes an answer of these tokens; its logprobs all differ and are not round in float32."""
  tokens = np.array(tokens, np.int32)
  logprobs = np.float32(-0.1) * (1 + np.arange(len(tokens), dtype=np.float32)) / np.float32(3)
  generated = None if generated is None else np.array(generated, bool)
  versions = np.full(tokens.shape, version, np.int32)
  return Answer(tokens, logprobs, 2 * logprobs, versions, reason, generated)


def group(answers, rewards, *, valid=None, index=0, prompt=(4, 5, 6), row=None) -> Group:
  """Makes a judged group whose accuracies are its rewards.

  Where not valid, both are 0 and the verdict is NaN.
  """
  valid = np.ones(len(answers), bool) if valid is None else np.array(valid, bool)
  verdicts = np.where(valid, np.array(rewards, np.float32), np.float32(np.nan))
  accuracy = np.where(valid, verdicts, np.float32(0))
  return Group(
    Prompt(index, tuple(prompt), {"answer": "1"} if row is None else row),
    tuple(answers),
    texts=("",) * len(answers),
    components={"correct": verdicts},
    accuracy=accuracy,
    rewards=accuracy.copy(),
    valid=valid,
  )
