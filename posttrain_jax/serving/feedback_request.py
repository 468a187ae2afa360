"""Checks the feedback that a page sends, and stores it.

    {"kind": "vote", "id", "client", "prompt": [messages], "answers": [ANSWER, ANSWER], "better": 0, 1 or null}
    {"kind": "thumb", "id", "client", "prompt", "answer": ANSWER, "up": true or false}
    {"kind": "edit", "id", "client", "prompt", "answer": ANSWER, "edited": TEXT}

ANSWER is {"text", "model", "version", "sampling"}. A vote without a better one is a tie.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from posttrain_jax.serving import feedback_rows
from posttrain_jax.serving.feedback_rows import GivenAnswer, Origin
from posttrain_jax.serving.feedback_store import FeedbackStore
from posttrain_jax.types import InputError

_NAME = re.compile(r"[A-Za-z0-9_-]{8,64}")
_MOST_MESSAGES = 200
_LONGEST_TEXT = 100_000  # characters
_LONGEST_NAME = 200
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed")
_ROLES = ("system", "user", "assistant")


def store(body: bytes, feedback: FeedbackStore, reads_messages: Callable[[str], bool | None]) -> bool:
  """Stores what a request says.

  Args:
    body: the JSON of a request.
    feedback: where it is stored.
    reads_messages: says of a model's name whether the model reads messages; None if there is no such model.

  Returns:
    Whether it was new.

  Raises:
    InputError: if the request has another form.
  """
  try:
    said = json.loads(body)
  except (ValueError, RecursionError) as error:
    raise InputError(f"body: malformed JSON: {error}") from None
  if not isinstance(said, Mapping):
    raise InputError(f"body: found a JSON {type(said).__name__}, expected an object")
  kind = said.get("kind")
  fields = {"vote": ("answers", "better"), "thumb": ("answer", "up"), "edit": ("answer", "edited")}
  if not isinstance(kind, str) or kind not in fields:
    raise InputError(f"kind: {str(kind)!r:.40}, expected one of {', '.join(fields)}")
  expected = {"kind", "id", "client", "prompt", *fields[kind]}
  if set(said) != expected:
    raise InputError(
      f"{kind}: found the fields {', '.join(sorted(said))!r:.200}, expected {', '.join(sorted(expected))}"
    )
  origin = Origin(_name(said, "client"), _name(said, "id"), feedback_rows.now())
  messages = _messages(said["prompt"])
  if kind == "vote":
    if not isinstance(said["answers"], list) or len(said["answers"]) != 2:
      raise InputError("answers: expected a list of two")
    answers = [_answer(each, f"answers[{place}]", reads_messages) for place, each in enumerate(said["answers"])]
    prompt, better = _asked(messages, answers, reads_messages), said["better"]
    if better is None:
      return feedback.add_tie(prompt, *answers, origin)
    if isinstance(better, bool) or better not in (0, 1):
      raise InputError(f"better: {better!r:.40}, expected 0, 1 or null")
    if answers[0].text == answers[1].text:
      raise InputError("answers: are equal, so that neither is better; expected null as better")
    return feedback.add_vote(prompt, answers[better], answers[1 - better], origin)
  answer = _answer(said["answer"], "answer", reads_messages)
  prompt = _asked(messages, [answer], reads_messages)
  if kind == "thumb":
    if not isinstance(said["up"], bool):
      raise InputError(f"up: {said['up']!r:.40}, expected true or false")
    return feedback.add_thumb(prompt, answer, said["up"], origin)
  edited = _text(said["edited"], "edited", empty=False)
  if edited == answer.text:
    raise InputError("edited: equals the answer, expected another text")
  return feedback.add_edit(prompt, answer, edited, origin)


def _asked(messages: list[dict[str, str]], answers: list[GivenAnswer], reads_messages: Callable[[str], bool | None]):
  """Returns the prompt as text if a model of the answers does not read messages."""
  return feedback_rows.asked(messages, has_chat_template=all(reads_messages(each.model) for each in answers))


def _messages(given: Any) -> list[dict[str, str]]:
  if not isinstance(given, list) or not 1 <= len(given) <= _MOST_MESSAGES:
    raise InputError(f"prompt: expected a list of 1 to {_MOST_MESSAGES} messages")
  found = []
  for place, message in enumerate(given):
    if not isinstance(message, Mapping) or set(message) != {"role", "content"} or message["role"] not in _ROLES:
      raise InputError(f"prompt[{place}]: expected 'role' and 'content', and a role of {', '.join(_ROLES)}")
    found.append({"role": message["role"], "content": _text(message["content"], f"prompt[{place}].content")})
  if found[-1]["role"] != "user" or not found[-1]["content"].strip():
    raise InputError("prompt: expected words of the user as the last message")
  return found


def _answer(given: Any, where: str, reads_messages: Callable[[str], bool | None]) -> GivenAnswer:
  if not isinstance(given, Mapping) or set(given) != {"text", "model", "version", "sampling"}:
    raise InputError(f"{where}: expected 'text', 'model', 'version' and 'sampling'")
  text, model = _text(given["text"], f"{where}.text", empty=False), given["model"]
  if not isinstance(model, str) or reads_messages(model) is None:
    raise InputError(f"{where}.model: {str(model)!r:.80} is not served here")
  version, sampling = given["version"], given["sampling"]
  if version is not None and (
    not isinstance(version, str) or len(version) > _LONGEST_NAME or not version.isprintable()
  ):
    raise InputError(f"{where}.version: expected a text of at most {_LONGEST_NAME} characters, or null")
  if not isinstance(sampling, Mapping) or not set(sampling) <= set(_SAMPLING):
    raise InputError(f"{where}.sampling: expected some of {', '.join(_SAMPLING)}")
  for name, value in sampling.items():
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if value is not None and not (number and abs(value) < 2**63):
      raise InputError(f"{where}.sampling.{name}: expected a number or null")
  return GivenAnswer(text, model, version, dict(sampling))


def _text(given: Any, where: str, *, empty: bool = True) -> str:
  if not isinstance(given, str) or len(given) > _LONGEST_TEXT or (not empty and not given.strip()):
    raise InputError(f"{where}: expected a text of at most {_LONGEST_TEXT} characters{'' if empty else ', not empty'}")
  try:
    given.encode()
  except UnicodeEncodeError:
    raise InputError(f"{where}: has half a character, expected whole ones") from None
  return given


def _name(said: Mapping[str, Any], field: str) -> str:
  value = said[field]
  if not isinstance(value, str) or not _NAME.fullmatch(value):
    raise InputError(f"{field}: expected 8 to 64 letters, digits, - or _")
  return value
