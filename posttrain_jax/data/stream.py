"""The endless stream of training prompts: shuffled epochs whose only state is a position.

Any position of the stream is found without those before it (Grain's MapDataset), so a resumed run draws what the
uninterrupted one would have drawn, also in the middle of an epoch or of a draw.
"""

import dataclasses
from collections.abc import Sequence

import grain

from posttrain_jax.types import InputError, Prompt


class PromptStream:
  """Draws prompts in shuffled epochs.

  Attributes:
    position: how many prompts have been drawn: the whole state. Set it to resume.
  """

  def __init__(self, prompts: Sequence[Prompt], seed: int, position: int = 0):
    """Starts at a position.

    Raises:
      InputError: there are no prompts.
    """
    if not prompts:
      raise InputError("prompts: none to draw from")
    self.position = position
    self._prompts = prompts
    self._order = grain.MapDataset.range(len(prompts)).shuffle(seed=seed).repeat()  # every epoch shuffled anew

  @property
  def epoch(self) -> int:
    """The epoch that the next prompt belongs to, from 0 on."""
    return self.position // len(self._prompts)

  def next(self, n: int) -> list[Prompt]:
    """The next n prompts, going over into following epochs as needed; `attempt` is a prompt's epoch."""
    drawn = []
    for position in range(self.position, self.position + n):
      prompt = self._prompts[self._order[position]]
      drawn.append(dataclasses.replace(prompt, attempt=position // len(self._prompts)))
    self.position += n
    return drawn
