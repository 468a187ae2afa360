"""Defines the numbers that fix the shapes of the engine's programs."""

import dataclasses
from collections.abc import Sequence

from posttrain_jax.types import InputError

SHORTEST_BUCKET = 32  # tokens; a program for shorter prefills would take longer to compile than it gains


def length_buckets(longest: int) -> tuple[int, ...]:
  """Returns the widths to pad to: the longest length, its half and its quarter.

  The half or the quarter is left out if it is shorter than SHORTEST_BUCKET.
  """
  return tuple(sorted({longest, *(-(-longest // part) for part in (4, 2) if longest >= SHORTEST_BUCKET * part)}))


def bucket_of(buckets: Sequence[int], length: int) -> int:
  """Returns the first bucket, in rising order, that holds a length."""
  return next(bucket for bucket in buckets if length <= bucket)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Holds the numbers that fix the programs' shapes; `Engine` explains each.

  Attributes:
    slots: S, answers drawn at the same time.
    max_prompt_length: tokens of the longest prompt.
    max_new_tokens: cap on the tokens of an answer.
    steps_per_dispatch: decode steps in one dispatch.
    prefill_width: W, prompts or resumed answers in one prefill.
    share: T, answers that read one copy of a prompt.
    cache_tokens: tokens that the caches hold; None: from the devices' memory (`pool_size`).
  """

  slots: int
  max_prompt_length: int
  max_new_tokens: int
  steps_per_dispatch: int
  prefill_width: int
  share: int
  cache_tokens: int | None

  def __post_init__(self):
    """Raises InputError on a size below 1."""
    for field in dataclasses.fields(self):
      size = getattr(self, field.name)
      if size is not None and size < 1:
        raise InputError(f"rollout.{field.name}: {size}, expected at least 1")
