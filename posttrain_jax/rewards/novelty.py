"""Says how new a text is, against all earlier texts and against those that were written with it.

Novelty is 1 less BLEU, with all these texts as references: the self-BLEU reward of curiosity-driven red teaming
(2402.19464, section 3.2).

Deviations: the paper takes the negative sum of self-BLEU over its orders, so that a bonus is negative; here one BLEU of
n-grams up to `longest` gives a number in [0, 1]. The texts of the same step count as references, too. There is no
penalty for brevity. The paper's other bonus, a distance of sentence embeddings, needs a model of sentences and is left
out.
"""

import collections
import math
from collections.abc import Hashable, Sequence

_SMOOTHING = 0.1  # matches credited where there are none (Chen & Cherry 2014, method 1)

Tokens = Sequence[Hashable]
Counts = collections.Counter[tuple[Hashable, ...]]


class Novelty:
  """Remembers texts, which are sequences of tokens or words, and says how new others are."""

  def __init__(self, longest: int):
    """Remembers nothing.

    Args:
      longest: tokens of the longest n-grams.
    """
    self._longest = longest
    self._most: dict[tuple[Hashable, ...], int] = {}  # n-gram to its highest count in an earlier text

  def rate(self, texts: Sequence[Tokens]) -> list[float]:
    """Returns the novelty of each text, against those remembered and the others of the call.

    An empty text has novelty 0.
    """
    counted = [self._counts(text) for text in texts]
    beside = _two_highest(counted)
    return [self._novelty(counts, beside) for counts in counted]

  def remember(self, texts: Sequence[Tokens]) -> None:
    """Adds texts to those that later ones are compared with."""
    for text in texts:
      for gram, count in self._counts(text).items():
        self._most[gram] = max(count, self._most.get(gram, 0))

  def _counts(self, text: Tokens) -> Counts:
    lengths = range(1, min(self._longest, len(text)) + 1)
    return collections.Counter(gram for n in lengths for gram in zip(*(text[start:] for start in range(n))))

  def _novelty(self, counts: Counts, beside: dict[tuple[Hashable, ...], tuple[int, int]]) -> float:
    matched, total = collections.Counter(), collections.Counter()
    for gram, count in counts.items():
      highest, second = beside[gram]
      elsewhere = max(second if highest == count else highest, self._most.get(gram, 0))
      matched[len(gram)] += min(count, elsewhere)
      total[len(gram)] += count
    if not total:
      return 0.0
    if not matched[1]:
      return 1.0
    return 1 - math.prod((matched[n] or _SMOOTHING) / total[n] for n in total) ** (1 / len(total))


def _two_highest(counted: Sequence[Counts]) -> dict[tuple[Hashable, ...], tuple[int, int]]:
  """Returns the two highest counts of each n-gram in different texts."""
  found: dict[tuple[Hashable, ...], tuple[int, int]] = {}
  for counts in counted:
    for gram, count in counts.items():
      highest, second = found.get(gram, (0, 0))
      found[gram] = (count, highest) if count > highest else (highest, max(second, count))
  return found
