"""Adds answers to other prompts, which KTO's estimate of the KL to the reference needs.

The estimate is the mean log ratio of prompts with answers to other prompts (arXiv:2402.01306, section 4.1).
"""

import dataclasses
import itertools
from collections.abc import Sequence

from posttrain_jax.data.preferences import Comparison
from posttrain_jax.types import InputError


def with_mismatched(comparisons: Sequence[Comparison]) -> list[Comparison]:
  """Adds an answer to another prompt to each pair, or to each single answer.

  This last answer is not judged. It comes from the next row that has another prompt: the better answer of a pair, or
  the single answer. After the last row the search goes on at the first.

  Raises:
    InputError: if all comparisons have the same prompt, or if one is neither a pair nor a single answer.
  """
  found = []
  for i, comparison in enumerate(comparisons):
    count = len(comparison.answers)
    if count != (1 if comparison.is_single else 2):
      expected = "one" if comparison.is_single else "a pair"
      raise InputError(f"{comparison.source}: {count} answers, expected {expected}")
    others = itertools.chain(itertools.islice(comparisons, i + 1, None), itertools.islice(comparisons, i))
    other = next((other for other in others if other.prompt != comparison.prompt), None)
    if other is None:
      raise InputError(f"{comparison.source}: no other prompt among {len(comparisons)} comparisons to mismatch it with")
    best = 0 if other.is_single else other.beaten()[0][0]
    found.append(
      dataclasses.replace(
        comparison,
        answers=(*comparison.answers, other.answers[best]),
        ranks=(*comparison.ranks, None),
        ends=(*(comparison.ends or (1,) * count), (other.ends or (1, 1))[best]),
      )
    )
  return found
