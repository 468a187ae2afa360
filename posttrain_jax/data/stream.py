"""Draws training prompts from an endless stream of shuffled epochs.

The only state of the stream is a position. Grain's MapDataset computes any position directly, without those before it.
So a resumed run draws the same prompts as an uninterrupted one, even if it stopped in the middle of an epoch or a draw.

Prompts may be retired: the stream then skips them, and the other prompts keep their places and attempts. The retired
prompts are not part of the position, so the caller has to set them again after a resume.
"""

import dataclasses
from collections.abc import Collection, Sequence

import grain

from posttrain_jax.types import InputError, Prompt


class PromptStream:
  """Draws prompts in shuffled epochs.

  Attributes:
    position: number of prompts drawn or skipped so far. It is the whole state; set it to resume.
    retired: indices of the prompts to skip.
  """

  def __init__(self, prompts: Sequence[Prompt], seed: int, position: int = 0):
    """Starts at a position.

    Raises:
      InputError: if there are no prompts.
    """
    if not prompts:
      raise InputError("prompts: none to draw from")
    self.position = position
    self.retired: Collection[int] = frozenset()
    self._prompts = prompts
    self._order = grain.MapDataset.range(len(prompts)).shuffle(seed=seed).repeat()  # every epoch has its own order

  def __len__(self) -> int:
    """Counts the prompts of an epoch, the retired ones included."""
    return len(self._prompts)

  @property
  def epoch(self) -> int:
    """Returns the epoch of the next position, counted from 0."""
    return self.position // len(self._prompts)

  @property
  def exhausted(self) -> bool:
    """Tells whether all prompts are retired."""
    return bool(self.retired) and all(prompt.index in self.retired for prompt in self._prompts)

  def next(self, n: int) -> list[Prompt]:
    """Draws the next n prompts, or none if all prompts are retired.

    One draw may reach into the following epochs. The `attempt` of a prompt is its epoch.
    """
    drawn: list[Prompt] = []
    count = 0 if self.exhausted else n
    while len(drawn) < count:
      prompt = self._prompts[self._order[self.position]]
      if prompt.index not in self.retired:
        drawn.append(dataclasses.replace(prompt, attempt=self.position // len(self._prompts)))
      self.position += 1
    return drawn
