"""The endless stream of training prompts: shuffled epochs whose only state is a position.

Any position of the stream is found without those before it (Grain's MapDataset), so a resumed run draws what the
uninterrupted one would have drawn, also in the middle of an epoch or of a draw. Prompts may be retired, which is for
whoever retires them to remember: the stream passes over them, and the others keep their places and their attempts.
"""

import dataclasses
from collections.abc import Collection, Sequence

import grain

from posttrain_jax.types import InputError, Prompt


class PromptStream:
  """Draws prompts in shuffled epochs.

  Attributes:
    position: how many prompts have been drawn or passed over: the whole state. Set it to resume.
    retired: indices of the prompts that are passed over.
  """

  def __init__(self, prompts: Sequence[Prompt], seed: int, position: int = 0):
    """Starts at a position.

    Raises:
      InputError: there are no prompts.
    """
    if not prompts:
      raise InputError("prompts: none to draw from")
    self.position = position
    self.retired: Collection[int] = frozenset()
    self._prompts = prompts
    self._order = grain.MapDataset.range(len(prompts)).shuffle(seed=seed).repeat()  # every epoch shuffled anew

  @property
  def epoch(self) -> int:
    """The epoch that the next prompt belongs to, from 0 on."""
    return self.position // len(self._prompts)

  @property
  def exhausted(self) -> bool:
    """True if all prompts are retired."""
    return bool(self.retired) and all(prompt.index in self.retired for prompt in self._prompts)

  def next(self, n: int) -> list[Prompt]:
    """The next n prompts, going over into following epochs as needed; none if all are retired.

    `attempt` is a prompt's epoch.
    """
    drawn: list[Prompt] = []
    count = 0 if self.exhausted else n
    while len(drawn) < count:
      prompt = self._prompts[self._order[self.position]]
      if prompt.index not in self.retired:
        drawn.append(dataclasses.replace(prompt, attempt=self.position // len(self._prompts)))
      self.position += 1
    return drawn
