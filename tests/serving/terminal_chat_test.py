"""Tests a chat with answers that are given, as a person and as a pipe see it."""

import io

import pytest

from posttrain_jax.serving.chat_session import ChatSampling, ChatSession
from posttrain_jax.serving.completion import Refused
from posttrain_jax.serving.terminal_chat import Screen, read_lines, talk
from posttrain_jax.types import InputError


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Answers:
  """Gives answers that are lists of pieces; an exception among the pieces is raised there."""

  model, version = "m", "1"

  def __init__(self, *answers):
    self.answers, self.asked, self.closed = list(answers), [], 0

  def answer(self, messages, sampling):
    self.asked.append([message["content"] for message in messages])
    try:
      for piece in self.answers.pop(0):
        if isinstance(piece, BaseException):
          raise piece
        yield piece
    finally:
      self.closed += 1


def chat(source, *lines, file, interactive):
  session = ChatSession(ChatSampling(1.0, 1.0, 10, None), None, reads_messages=True)
  given = iter(lines)

  def read():
    line = next(given, EOFError())
    if isinstance(line, BaseException):
      raise line
    return line

  talk(session, source, read, Screen(file), interactive=interactive)
  return session


def test_over_a_pipe_answers_are_as_they_are(capfd):
  file, source = io.StringIO(), Answers(["a\x1b", "b"], ["c"], ["d"])
  chat(source, "hi", "", "/temperature 0", "//2", "/retry", file=file, interactive=False)
  assert file.getvalue() == "a\x1bb\nc\nd\n"
  assert source.asked == [["hi"], ["hi", "a\x1bb", "/2"], ["hi", "a\x1bb", "/2"]]
  assert capfd.readouterr() == ("", "temperature is 0.0\n")


def test_over_a_pipe_a_bad_line_ends_the_program():
  with pytest.raises(InputError, match="/temp: there is no such command"):
    chat(Answers(), "/temp 0", file=io.StringIO(), interactive=False)
  with pytest.raises(InputError, match="the queue is full"):
    chat(Answers([Refused("the queue is full", busy=True)]), "hi", file=io.StringIO(), interactive=False)


def test_in_a_terminal_nothing_of_an_answer_is_obeyed():
  file = Terminal()
  chat(Answers(["<think>x", "</think>\x1b[2J", "\u202e[red]hm[/red]"]), "hi", file=file, interactive=True)
  text = file.getvalue()
  assert "␛[2J" in text and "[red]hm[/red]" in text
  assert "\x1b[2J" not in text and "\u202e" not in text


def test_what_does_not_fit_is_said_and_the_session_goes_on():
  file, source = Terminal(), Answers(["a"], [InputError("too\x1blong")], ["c"])
  session = chat(source, "/nothing", "hi", "again", "more", file=file, interactive=True)
  assert "/nothing: there is no such command" in file.getvalue() and "too␛long" in file.getvalue()
  assert [turn.question for turn in session.turns] == ["hi", "more"]


def test_ctrl_c_stops_an_answer_and_keeps_what_there_is():
  file, source = Terminal(), Answers(["begin ", KeyboardInterrupt()], ["c"], [KeyboardInterrupt()])
  session = chat(source, "hi", KeyboardInterrupt(), "more", "last", file=file, interactive=True)
  assert "(stopped)" in file.getvalue() and source.closed == 3
  assert source.asked[1] == ["hi", "begin ", "more"]
  assert [turn.question for turn in session.turns] == ["hi", "more"]  # nothing came of the last


def test_quit_ends():
  source = Answers()
  chat(source, "/quit", "hi", file=Terminal(), interactive=True)
  assert source.asked == []


def test_lines_of_a_pipe_go_on_after_a_backslash():
  read = read_lines(io.StringIO("one\\\ntwo\r\nlast"), prompts=False)
  assert [read(), read()] == ["one\ntwo", "last"]
  with pytest.raises(EOFError):
    read()
