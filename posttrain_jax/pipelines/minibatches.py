"""In which order a step's prompts are trained on: every one once in each epoch, shuffled anew each time."""

import numpy as np


def epoch_orders(count: int, *, epochs: int, seed: int, step: int) -> list[np.ndarray]:
  """For each epoch the positions of a step's prompts in their order, found from (seed, step) alone.

  A minibatch is as many of them in a row as an update takes; the answers of a prompt stay together.

  Args:
    count: prompts of the step.
    epochs: how often each prompt is trained on.
    seed: of the stream of minibatches.
    step: of the run.

  Returns:
    int [count] for each epoch, a permutation.
  """
  return [np.random.default_rng((seed, step, epoch)).permutation(count) for epoch in range(epochs)]
