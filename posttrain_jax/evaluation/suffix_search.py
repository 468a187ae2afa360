"""Searches words that make a model comply when they stand after a request.

One suffix is searched for many requests, on the model itself, as in GCG (2307.15043, section 2.2). Here words are
exchanged at random and kept if they help, without gradients (2404.02151).
"""

import dataclasses
import random
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSettings:
  """Describes a search.

  Attributes:
    words: words of the suffix.
    rounds: exchanges of one word.
    candidates: words that are tried in each.
  """

  words: int
  rounds: int
  candidates: int


def search_suffix(
  score: Callable[[Sequence[str]], Sequence[float]], vocabulary: Sequence[str], settings: SearchSettings, *, seed: int
) -> tuple[str, list[float]]:
  """Searches a suffix.

  Args:
    score: gives each suffix a number, the more it helps the higher.
    vocabulary: words that may stand in it.
    settings: of the search.
    seed: of the draws.

  Returns:
    (the best suffix, the best score before the first round and after each).
  """
  rng = random.Random(f"suffix/{seed}")
  best = rng.choices(vocabulary, k=settings.words)
  scores = [float(score([" ".join(best)])[0])]
  for number in range(settings.rounds):
    place = number % settings.words
    tried = [[*best[:place], word, *best[place + 1 :]] for word in rng.choices(vocabulary, k=settings.candidates)]
    found = score([" ".join(words) for words in tried])
    highest = max(range(len(tried)), key=found.__getitem__)
    if found[highest] > scores[-1]:
      best = tried[highest]
    scores.append(max(scores[-1], float(found[highest])))
  return " ".join(best), scores
