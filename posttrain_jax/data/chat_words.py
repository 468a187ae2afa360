"""Checks that a chat template wrote all that a chat says.

A template may cut out words in silence. R1's keeps only what follows `</think>` of an assistant's turn, others leave
out the system message or the tools. What is left out is not learned, or not asked.
"""

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from posttrain_jax.data.chat_template import Message
from posttrain_jax.types import InputError

_END_OF_REASONING = "</think>"
_EXPECTED = "expected a template that writes it, or left_out='allow'"
_RESULTS_OF_TOOLS = ("tool", "function", "ipython")  # roles whose content templates may write as JSON


class LeftOut(enum.StrEnum):
  """Lists the actions on words of a chat that its template leaves out."""

  ERROR = "error"  # raise an error that names them
  ALLOW = "allow"  # go on without them


class WordsLeftOut(InputError):
  """Signals a chat whose template leaves out some of its words."""


def check_words(
  messages: Sequence[Message],
  text: str,
  *,
  learned: Mapping[int, str] | None = None,
  tools: Sequence[Mapping[str, Any]] | None = None,
) -> None:
  """Checks that the words of a chat are in its text.

  White space does not count, since templates trim and indent. In turns of the assistant that are not learned, reasoning
  may be missing: templates leave out old reasoning on purpose, in training as in use.

  Args:
    messages: the chat, its contents as text (`chat_template.plain`).
    text: what the template made of it.
    learned: the text of each turn that is learned, by the number of its message; None for a prompt.
    tools: the tools that the template was given.

  Raises:
    WordsLeftOut: if words are missing. The message says which.
  """
  learned, everything = learned or {}, _squeezed(text)
  said = [(i, role, what, _squeezed(words)) for i, role, what, words in _words(messages, learned)]
  for i, role, what, words in said:
    if i in learned and words not in _squeezed(learned[i]):
      raise _left_out(i, role, what)
  for i, role, what, words in said:
    # Words may stand elsewhere in the chat by chance, so they must be there as often as the messages have them.
    expected = sum(other.count(words) for *_, other in said) if words else 0
    if everything.count(words) < expected and not _is_json_in(role, messages[i].get("content"), everything):
      raise _left_out(i, role, what)
  for tool in tools or ():
    name = str(tool.get("function", tool).get("name", ""))
    if name not in text:
      raise WordsLeftOut(f"chat template: leaves out the tool {name!r}; {_EXPECTED}")


def _left_out(number: int, role: str, what: str) -> WordsLeftOut:
  return WordsLeftOut(f"chat template: leaves out {what} of message {number}, role {role}; {_EXPECTED}")


def _words(messages: Sequence[Message], learned: Mapping[int, str]) -> Iterator[tuple[int, str, str, str]]:
  """Yields (number, role, name of the part, words) of what must be in the text."""
  for i, message in enumerate(messages):
    role, content, reasoning = message["role"], message.get("content"), message.get("reasoning_content")
    if isinstance(content, str):
      if role == "assistant" and i not in learned:
        content = content.rpartition(_END_OF_REASONING)[2]
      yield i, role, "the content", content
    if isinstance(reasoning, str) and i in learned:
      yield i, role, "the reasoning_content", reasoning
    for call in message.get("tool_calls") or ():
      if isinstance(call, Mapping):
        function = call.get("function", call)
        yield i, role, "a tool call", str(function.get("name", "") if isinstance(function, Mapping) else function)


def _squeezed(text: str) -> str:
  return "".join(text.split())


def _is_json_in(role: str, content: Any, squeezed: str) -> bool:
  return role in _RESULTS_OF_TOOLS and any(
    _squeezed(json.dumps(content, ensure_ascii=ascii)[1:-1]) in squeezed for ascii in (True, False)
  )
