"""Puts each answer behind its prompt in a row of its own.

Packed rows and the engine are compared with such rows.
"""

import numpy as np


def rows_alone(prompts, prompt_lengths, answers) -> tuple[np.ndarray, np.ndarray]:
  """Makes a row of each answer.

  Args:
    prompts: int [P, Tp], padded on the right.
    prompt_lengths: int [P].
    answers: int [P, G, Tc], padded on the right.

  Returns:
    (rows int32 [P · G, Tp + Tc], padded with zeros on the right; int32 [P · G, Tc], the place in its row that predicts
    each token of an answer).
  """
  (count, group, length), width = answers.shape, prompts.shape[1]
  rows = np.zeros((count * group, width + length), np.int32)
  for row, answer in enumerate(answers.reshape(-1, length)):
    prompt = prompts[row // group, : prompt_lengths[row // group]]
    rows[row, : len(prompt) + length] = [*prompt, *answer]
  return rows, np.repeat(prompt_lengths, group)[:, None] - 1 + np.arange(length)
