"""Makes comparisons of sampled groups: of each group's best and worst answer, or of all."""

from collections.abc import Sequence

import numpy as np

from posttrain_jax.data.comparison_batches import ComparisonBatch
from posttrain_jax.types import Group


def best_and_worst(groups: Sequence[Group]) -> list[tuple[Group, int, int]]:
  """Returns (group, its best answer, its worst) of the groups whose rewards differ, in order.

  Among equal rewards the answer that was drawn first counts. Answers without a reward are left out.
  """
  found = []
  for group in groups:
    valid = np.flatnonzero(group.valid)
    if len(valid):
      best, worst = valid[np.argmax(group.rewards[valid])], valid[np.argmin(group.rewards[valid])]
      if group.rewards[best] > group.rewards[worst]:
        found.append((group, int(best), int(worst)))
  return found


def stack_answers(
  chosen: Sequence[tuple[Group, Sequence[int]]], *, count: int, answers: int, prompt_width: int, answer_width: int
) -> ComparisonBatch:
  """Pads answers of groups into a batch of fixed shape.

  Answer 0 is preferred to answer 1.

  Args:
    chosen: (group, which of its answers) at most `count` times.
    count: N, rows; those that are left have index −1.
    answers: K, answers of a row.
    prompt_width: Tp.
    answer_width: Tc.
  """
  batch = ComparisonBatch(
    index=np.full((count,), -1, np.int32),
    prompts=np.zeros((count, prompt_width), np.int32),
    prompt_lengths=np.ones((count,), np.int32),
    answers=np.zeros((count, answers, answer_width), np.int32),
    lengths=np.zeros((count, answers), np.int32),
    mask=np.zeros((count, answers, answer_width), bool),
    preferred=np.zeros((count, answers, answers), bool),
    margins=np.zeros((count, answers, answers), np.float32),
  )
  for row, (group, which) in enumerate(chosen):
    batch.index[row], batch.prompt_lengths[row] = row, len(group.prompt.tokens)
    batch.prompts[row, : len(group.prompt.tokens)] = group.prompt.tokens
    batch.preferred[row, 0, 1:] = answers > 1
    for k, i in enumerate(which):
      tokens = group.answers[i].tokens
      batch.lengths[row, k] = len(tokens)
      batch.answers[row, k, : len(tokens)] = tokens
      batch.mask[row, k, : len(tokens)] = True
  return batch
