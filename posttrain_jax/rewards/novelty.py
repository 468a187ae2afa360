"""Says how new a text is, against earlier texts and those beside it.

Novelty is 1 less BLEU with the text that is most like it: a form of the self-BLEU reward of curiosity-driven red
teaming (2402.19464, section 3.2).

Deviations: the paper takes all earlier texts as references of one BLEU, and the negative sum over its orders. A text
that is put together of pieces of many others is not new then, and in the end nothing is: novelty stagnates as the
memory grows (2405.19026). So the nearest text counts alone, and one BLEU of n-grams up to `longest` gives a number in
[0, 1]. The texts of the same step count, too. There is no penalty for brevity. The paper's other bonus, a distance of
sentence embeddings, needs a model of sentences and is left out.
"""

import collections
from collections.abc import Hashable, Sequence

import numpy as np

_SMOOTHING = 0.1  # matches credited where there are none (Chen & Cherry 2014, method 1)

Tokens = tuple[Hashable, ...]


class TextNovelty:
  """Remembers texts, which are sequences of tokens, and says how new others are."""

  def __init__(self, longest: int):
    """Remembers nothing.

    Args:
      longest: tokens of the longest n-grams.
    """
    self._longest = longest
    self._known: dict[Tokens, int] = {}  # text to its number
    self._having: dict[Hashable, list[int]] = {}  # an n-gram's k-th occurrence to the texts that have it

  def add(self, texts: Sequence[Sequence[Hashable]]) -> list[float]:
    """Rates each text, against those before and the others of the call, and remembers them.

    Returns:
      The novelty of each, in [0, 1]; 0 for an empty text.
    """
    given = [tuple(text) for text in texts]
    copies, old = collections.Counter(given), {text for text in given if text in self._known}
    for text in copies:
      self._remember(text)
    return [0.0 if copies[text] > 1 or text in old or not text else self._novelty(text) for text in given]

  def _remember(self, text: Tokens) -> None:
    if text not in self._known:
      number = self._known[text] = len(self._known)
      for each in self._occurrences(text):
        self._having.setdefault(each, []).append(number)

  def _novelty(self, text: Tokens) -> float:
    """Returns 1 less BLEU with the nearest of all other texts."""
    matched = np.zeros((min(self._longest, len(text)), len(self._known)))
    for each in self._occurrences(text):
      matched[len(each[0]) - 1, self._having[each]] += 1
    total = len(text) - np.arange(len(matched))[:, None]
    likeness = np.prod(np.where(matched, matched, _SMOOTHING) / total, axis=0) ** (1 / len(matched))
    likeness = np.where(matched[0] > 0, likeness, 0)  # without a common token nothing is alike
    likeness[self._known[text]] = 0
    return float(1 - likeness.max())

  def _occurrences(self, text: Tokens) -> list[tuple[Tokens, int]]:
    """Returns the n-grams of a text, the k-th one of each kind with k.

    So texts share as many of them as n-grams, each counted at most as often as in the one that has it less often.
    """
    seen, found = collections.Counter(), []
    for n in range(1, min(self._longest, len(text)) + 1):
      for start in range(len(text) - n + 1):
        gram = text[start : start + n]
        seen[gram] += 1
        found.append((gram, seen[gram]))
    return found
