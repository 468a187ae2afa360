"""Carries out the commands of a chat in the terminal: lines that begin with a slash."""

import dataclasses
import math
import secrets
from collections.abc import Callable, Mapping

from posttrain_jax.local_path import output_file
from posttrain_jax.runs.appended_rows import AppendedRows
from posttrain_jax.serving import feedback_rows
from posttrain_jax.serving.chat_session import ChatSession
from posttrain_jax.serving.feedback_rows import Origin
from posttrain_jax.types import InputError

HELP = {
  "/temperature T": "of sampling; 0 takes the most likely tokens",
  "/top_p P": "nucleus of sampling",
  "/max_tokens N": "cap on an answer",
  "/seed N": "of the draws; none draws a new one each time",
  "/system TEXT": "system message; none is the model's own",
  "/retry": "another answer to the last question",
  "/better A or B FILE.jsonl": "which of the last two answers is better, as a row for reward_model and dpo",
  "/undo": "forgets the last question",
  "/save FILE.jsonl": "appends the conversation, as a row for sft",
  "/reset": "forgets the conversation",
  "/help": "these lines",
  "/quit": "ends, as Ctrl-D does; Ctrl-C stops an answer",
}
RETRY, QUIT = "/retry", "/quit"


class ChatCommands:
  """Carries out commands on a session. A file that was named once is used again."""

  def __init__(self, session: ChatSession, say: Callable[[str], None]):
    """Takes the session, and what shows a line to the user."""
    self._session, self._say, self._client = session, say, secrets.token_hex(8)
    self._files: dict[str, str] = {}
    self._commands: Mapping[str, Callable[[str], None]] = {
      "/temperature": lambda text: self._set("temperature", _number(text, float)),
      "/top_p": lambda text: self._set("top_p", _number(text, float)),
      "/max_tokens": lambda text: self._set("max_tokens", _number(text, int)),
      "/seed": lambda text: self._set("seed", None if text == "none" else _number(text, int)),
      "/system": self._system,
      "/better": self._better,
      "/undo": self._undo,
      "/save": self._save,
      "/reset": self._reset,
      "/help": self._help,
    }

  def __call__(self, line: str) -> None:
    """Carries out a line that is not RETRY or QUIT.

    Raises:
      InputError: if there is no such command, or if what follows it does not fit.
    """
    name, _, rest = line.partition(" ")
    if name not in self._commands:
      raise InputError(f"{name}: there is no such command; /help lists them, and // begins a question with a slash")
    try:
      self._commands[name](rest.strip())
    except InputError as error:
      said = str(error).removeprefix(f"{name[1:]}: ")
      raise error if said.startswith("/") else InputError(f"{name}: {said}") from None

  def _set(self, field: str, value: float | int | None) -> None:
    self._session.sampling = dataclasses.replace(self._session.sampling, **{field: value})
    self._say(f"{field} is {'a new one for each answer' if value is None else value}")

  def _system(self, text: str) -> None:
    if not text:
      raise InputError("found no text, expected the message, or none")
    self._session.system = None if text == "none" else text
    self._say("the system message is the model's own" if text == "none" else "the system message is set")

  def _undo(self, text: str) -> None:
    self._session.undo()
    self._say(f"forgot the last question; {len(self._session.turns)} are left")

  def _reset(self, text: str) -> None:
    self._session.turns.clear()
    self._say("forgot the conversation")

  def _help(self, text: str) -> None:
    for usage, meaning in HELP.items():
      self._say(f"{usage:<26} {meaning}")

  def _save(self, text: str) -> None:
    rows = self._session.rows()
    with self._file("/save", text) as file:
      for row in rows:
        file.append(row)
    self._say(f"saved {len(rows)} row{'s' if len(rows) > 1 else ''} to {self._files['/save']}")

  def _better(self, text: str) -> None:
    side, _, path = text.partition(" ")
    _, messages = self._session.retried()
    # The file first: if it cannot be opened, nothing has changed.
    with self._file("/better", path.strip()) as file:
      better, worse = self._session.prefer(side)
      origin = Origin(self._client, secrets.token_hex(8), feedback_rows.now())
      file.append(feedback_rows.vote(self._session.asked(messages), better, worse, origin))
    self._say(f"saved to {self._files['/better']}; the conversation goes on from {side.upper()}")

  def _file(self, name: str, path: str) -> AppendedRows:
    path = path or self._files.get(name, "")
    if not path:
      raise InputError(f"{name}: found no file, expected FILE.jsonl")
    if not path.endswith(".jsonl"):
      raise InputError(f"{name}: {path}, expected a name that ends with .jsonl")
    opened = AppendedRows(output_file(path, name))
    self._files[name] = path
    return opened


def _number(text: str, kind: type) -> float | int:
  try:
    value = kind(text)
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise InputError(f"{text!r}, expected {'a whole number' if kind is int else 'a number'}")
  return value
