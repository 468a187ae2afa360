"""Keeps a conversation with a model: its turns, its system message, how answers are drawn."""

import dataclasses
from collections.abc import Sequence

from posttrain_jax.serving import feedback_rows
from posttrain_jax.serving.feedback_rows import GivenAnswer
from posttrain_jax.types import InputError

_SIDES = ("A", "B")


@dataclasses.dataclass(frozen=True)
class ChatSampling:
  """Holds how answers are drawn.

  Attributes:
    temperature: 0 takes the most likely tokens.
    top_p: nucleus.
    max_tokens: cap on an answer.
    seed: of the first answer to a question; of each retry one more. None draws a new one for each answer.
  """

  temperature: float
  top_p: float
  max_tokens: int
  seed: int | None

  def __post_init__(self):
    """Raises InputError if a value is out of range."""
    if not 0 <= self.temperature <= 2:
      raise InputError(f"temperature: {self.temperature}, expected a number from 0 to 2")
    if not 0 < self.top_p <= 1:
      raise InputError(f"top_p: {self.top_p}, expected a number above 0 and at most 1")
    if self.max_tokens < 1:
      raise InputError(f"max_tokens: {self.max_tokens}, expected at least 1")
    if self.seed is not None and not 0 <= self.seed < 2**31:
      raise InputError(f"seed: {self.seed}, expected a number from 0 to {2**31 - 1}, or none")


@dataclasses.dataclass
class Turn:
  """Holds a question and its answers.

  Attributes:
    question: of the user.
    answers: in the order in which they were drawn.
    kept: which one the conversation goes on from.
  """

  question: str
  answers: list[GivenAnswer]
  kept: int = 0


class ChatSession:
  """Keeps a conversation.

  Attributes:
    sampling: of the next answers.
    turns: so far; each has an answer.
  """

  def __init__(self, sampling: ChatSampling, system: str | None, *, reads_messages: bool):
    """Starts without turns.

    Args:
      sampling: of the first answers.
      system: system message; None for the model's own.
      reads_messages: whether the model has a chat template. Without one it sees the last question alone.

    Raises:
      InputError: if there is a system message, and the model does not read messages.
    """
    self.sampling, self.turns, self._reads_messages = sampling, [], reads_messages
    self.system = system

  @property
  def system(self) -> str | None:
    """Returns the system message; None for the model's own."""
    return self._system

  @system.setter
  def system(self, text: str | None) -> None:
    if text is not None and not self._reads_messages:
      raise InputError("system: the model has no chat template, expected no system message")
    self._system = text

  def messages(self, question: str | None = None) -> list[dict[str, str]]:
    """Returns the conversation, and a next question if there is one.

    A model that does not read messages gets the question alone.
    """
    return self._messages(self.turns, question)

  def _messages(self, turns: Sequence[Turn], question: str | None) -> list[dict[str, str]]:
    asked = [] if question is None else [{"role": "user", "content": question}]
    if asked and not self._reads_messages:
      return asked
    found = [] if self.system is None else [{"role": "system", "content": self.system}]
    for turn in turns:
      found.append({"role": "user", "content": turn.question})
      found.append({"role": "assistant", "content": turn.answers[turn.kept].text})
    return found + asked

  def next_sampling(self, *, retry: bool) -> ChatSampling:
    """Returns how the next answer is drawn."""
    if self.sampling.seed is None or not retry:
      return self.sampling
    return dataclasses.replace(self.sampling, seed=(self.sampling.seed + len(self._last.answers)) % 2**31)

  def retried(self) -> tuple[str, list[dict[str, str]]]:
    """Returns the last question, and the messages that end with it.

    Raises:
      InputError: if there is no question yet.
    """
    question = self._last.question
    return question, self._messages(self.turns[:-1], question)

  def add(self, question: str, answer: GivenAnswer, *, retry: bool) -> None:
    """Adds an answer: to a new question, or to the last one."""
    if retry:
      self._last.answers.append(answer)
      self._last.kept = len(self._last.answers) - 1
    else:
      self.turns.append(Turn(question, [answer]))

  def undo(self) -> None:
    """Forgets the last question and its answers.

    Raises:
      InputError: if there is none.
    """
    self.turns.remove(self._last)

  def prefer(self, side: str) -> tuple[GivenAnswer, GivenAnswer]:
    """Goes on from the better one of the last two answers.

    Args:
      side: A for the earlier one, B for the later one.

    Returns:
      (better, worse).

    Raises:
      InputError: if there are no two different answers, or for another side.
    """
    if side.upper() not in _SIDES:
      raise InputError(f"better: {side!r}, expected A (the earlier answer) or B (the later one)")
    answers = self._last.answers
    if len(answers) < 2 or answers[-1].text == answers[-2].text:
      raise InputError("better: expected two different answers to the last question; /retry draws another one")
    place = len(answers) - 2 + _SIDES.index(side.upper())
    self._last.kept = place
    return answers[place], answers[2 * len(answers) - 3 - place]

  def rows(self) -> list[dict]:
    """Returns the conversation as demonstrations.

    Raises:
      InputError: if there is no answer yet.
    """
    kept = self._last.answers[self._last.kept]
    more = {**kept.columns(), "time": feedback_rows.now()}
    return feedback_rows.demonstration(self.messages(), has_chat_template=self._reads_messages, **more)

  def asked(self, messages: Sequence[dict[str, str]]) -> str | list[dict[str, str]]:
    """Returns messages as the prompt of a row."""
    return feedback_rows.asked(messages, has_chat_template=self._reads_messages)

  @property
  def _last(self) -> Turn:
    if not self.turns:
      raise InputError("there is no question yet, expected one")
    return self.turns[-1]
