"""Asks a judge for the better one of two answers, in both orders.

The judge reads both answers as "(A)" and "(B)". Its probability of (A) is that among the two tokens, P(A) / (P(A) +
P(B)); with the order swapped it is asked again and the two are averaged.

A judge may think first. It is surer then than it is right, so its probability stays within `CLAMP`.
"""

from collections.abc import Sequence

import numpy as np

from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.evaluation.text_model import TextModel

CLAMP = (0.4, 0.6)  # of a judge that thinks first (section 4.1)


class Judge:
  """Asks a model for the better one of two answers."""

  def __init__(self, model: TextModel, *, thinks: bool):
    """Takes the model; with `thinks` it thinks first."""
    self._model, self._thinks, self.tokens = model, thinks, 0

  def probabilities(self, pairs: Sequence[tuple[str, str, str, str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Asks in both orders.

    Args:
      pairs: (request in the world's template, first answer, second answer, what is known, principle).

    Returns:
      (P that the first answer is better, averaged over both orders; how often the two orders agree on the better one,
      as 0 or 1), float [N] each.
    """
    straight = self._first_wins(pairs)
    swapped = 1 - self._first_wins([(asked, second, first, *rest) for asked, first, second, *rest in pairs])
    return (straight + swapped) / 2, ((straight > 0.5) == (swapped > 0.5)).astype(float)

  def _first_wins(self, pairs: Sequence[tuple[str, ...]]) -> np.ndarray:
    if not pairs:
      return np.zeros(0)
    if self._thinks:
      begun = [critiques.thought_prompt(*pair) for pair in pairs]
      thoughts, count = self._model.draw(begun)
      self.tokens += count
      texts = [critiques.after_thought(prompt, thought) for prompt, thought in zip(begun, thoughts)]
    else:
      texts = [critiques.judge_prompt(*pair) for pair in pairs]
    both = self._model.logprobs(texts, (critiques.FIRST, critiques.SECOND)).astype(np.float64)
    found = 1 / (1 + np.exp(both[:, 1] - both[:, 0]))
    return np.clip(found, *CLAMP) if self._thinks else found
