"""Talks with a model in a terminal, or over a pipe."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from typing import TextIO

import rich.console
import rich.text

from posttrain_jax.serving.answer_sources import AnswerSource
from posttrain_jax.serving.chat_commands import QUIT, RETRY, ChatCommands
from posttrain_jax.serving.chat_session import ChatSession
from posttrain_jax.serving.completion import Refused
from posttrain_jax.serving.feedback_rows import GivenAnswer
from posttrain_jax.serving.shown_text import ShownAnswer, ShownPiece, harmless
from posttrain_jax.types import InputError

_ASKS, _MORE = "> ", ". "
_THOUGHT = "dim italic"


def read_lines(source: TextIO, *, prompts: bool) -> Callable[[], str]:
  """Returns what reads the next line.

  A line that ends with a backslash goes on in the next one.

  Args:
    source: standard input.
    prompts: whether a person types, who gets a prompt and can edit the line.
  """

  def line(prompt: str) -> str:
    if prompts:
      return input(prompt)
    found = source.readline()
    if not found:
      raise EOFError
    return found.removesuffix("\n").removesuffix("\r")

  def read() -> str:
    text = line(_ASKS)
    while text.endswith("\\"):
      text = f"{text[:-1]}\n{line(_MORE)}"
    return text

  return read


class Screen:
  """Shows answers and messages.

  In a terminal they have styles, and nothing that it obeys. Over a pipe answers are as they are.
  """

  def __init__(self, file: TextIO | None = None):
    """Takes where answers go; None is standard output."""
    file = file or sys.stdout
    self._file, self._is_terminal = file, file.isatty()
    self._console = rich.console.Console(file=file, highlight=False, markup=False, soft_wrap=True)

  def say(self, line: str) -> None:
    """Shows a line of the program itself.

    Over a pipe it goes to standard error, as it is no answer.
    """
    if self._is_terminal:
      self._console.print(rich.text.Text(harmless(line), "cyan"))
    else:
      print(harmless(line), file=sys.stderr)

  def answer(self, pieces) -> str:
    """Shows an answer while it is drawn.

    Returns:
      Its text. Ctrl-C ends it where it is.
    """
    texts, shown = [], ShownAnswer()
    with contextlib.closing(pieces):
      try:
        for piece in pieces:
          texts.append(piece)
          self._show(shown.add(piece), piece)
      except KeyboardInterrupt:
        self._show(shown.end(), "")
        self._end()
        self.say("(stopped)")
        return "".join(texts)
      except BaseException:
        self._show(shown.end(), "")
        if texts:
          self._end()
        raise
    self._show(shown.end(), "")
    self._end()
    return "".join(texts)

  def _show(self, pieces: list[ShownPiece], raw: str) -> None:
    if not self._is_terminal:
      self._file.write(raw)
    else:
      for piece in pieces:
        self._console.print(rich.text.Text(piece.text, _THOUGHT if piece.is_thought else ""), end="")
    self._file.flush()

  def _end(self) -> None:
    self._file.write("\n")
    self._file.flush()


def talk(
  session: ChatSession, source: AnswerSource, read: Callable[[], str], screen: Screen, *, interactive: bool
) -> None:
  """Reads lines and answers them until the end of the input.

  Args:
    session: the conversation.
    source: gives answers.
    read: returns the next line, or raises EOFError.
    screen: shows answers.
    interactive: whether a person types. What does not fit is then said, and the session goes on.

  Raises:
    InputError: if what a line says does not fit, and nobody is there to type another.
  """
  commands = ChatCommands(session, screen.say)
  while True:
    try:
      line = read()
    except EOFError:
      if interactive:
        screen.say("")  # the prompt's line
      return
    except KeyboardInterrupt:
      screen.say("\n(Ctrl-D ends)")
      continue
    if line.strip() == QUIT:
      return
    try:
      if line.strip() == RETRY:
        _ask(session, source, screen, None)
      elif line.startswith("/") and not line.startswith("//"):
        commands(line.strip())
      elif line.strip():
        _ask(session, source, screen, line[1:] if line.startswith("//") else line)
    except (InputError, Refused) as error:
      if not interactive:
        raise error if isinstance(error, InputError) else InputError(str(error)) from None
      screen.say(str(error))


def _ask(session: ChatSession, source: AnswerSource, screen: Screen, question: str | None) -> None:
  """Asks a question, or the last one again."""
  retry = question is None
  if retry:
    question, messages = session.retried()
  else:
    messages = session.messages(question)
  sampling = session.next_sampling(retry=retry)
  text = screen.answer(source.answer(messages, sampling))
  if text.strip():
    session.add(question, GivenAnswer(text, source.model, source.version, dataclasses.asdict(sampling)), retry=retry)
