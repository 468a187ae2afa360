"""Makes training data of what a person says of a model's answers.

Rows are those that `data.preference_rows`, `data.labelled_rows` and `data.encoding` read. Other columns say where a row
comes from: model, version, sampling, time, client.

A prompt is kept as messages, which the chat template renders. If the model has none, its prompt is one text, and that
is kept.
"""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

Messages = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class GivenAnswer:
  """Holds an answer that a model gave.

  Attributes:
    text: the answer.
    model: its name.
    version: of its parameters; None if the server does not say.
    sampling: how it was drawn.
  """

  text: str
  model: str
  version: str | None
  sampling: Mapping[str, float | int | None]

  def columns(self, prefix: str = "") -> dict[str, Any]:
    """Returns where the answer comes from, as columns."""
    return {
      (f"{prefix}from" if prefix else "model"): self.model,
      f"{prefix}version": self.version,
      f"{prefix}sampling": dict(self.sampling),
    }


@dataclasses.dataclass(frozen=True)
class Origin:
  """Describes who said something, and when.

  Attributes:
    client: a random name of the person's session.
    id: a random name of what was said, so that it is stored once.
    time: in UTC.
  """

  client: str
  id: str
  time: str


def now() -> str:
  """Returns the time in UTC, as rows have it."""
  return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def asked(messages: Messages, *, has_chat_template: bool) -> str | list[dict[str, str]]:
  """Returns the prompt of a row.

  Args:
    messages: before the answer, the user's last.
    has_chat_template: whether the model reads messages.
  """
  plain = [{"role": message["role"], "content": message["content"]} for message in messages]
  return plain if has_chat_template else plain[-1]["content"]


def vote(
  prompt: str | Messages, better: GivenAnswer, worse: GivenAnswer, origin: Origin, **more: Any
) -> dict[str, Any]:
  """Makes a preference row of two answers."""
  return {
    "prompt": prompt,
    "chosen": better.text,
    "rejected": worse.text,
    **better.columns("chosen_"),
    **worse.columns("rejected_"),
    **dataclasses.asdict(origin),
  }


def tie(prompt: str | Messages, first: GivenAnswer, second: GivenAnswer, origin: Origin) -> dict[str, Any]:
  """Makes a row of two equally good answers.

  No method learns from it, but `experiments.compare` counts it.
  """
  return {
    "prompt": prompt,
    "answers": [first.text, second.text],
    "ranks": [0, 0],
    "models": [first.model, second.model],
    "versions": [first.version, second.version],
    "samplings": [dict(first.sampling), dict(second.sampling)],
    **dataclasses.asdict(origin),
  }


def edit(prompt: str | Messages, answer: GivenAnswer, edited: str, origin: Origin) -> dict[str, Any]:
  """Makes a row that is a demonstration and a preference.

  The edited answer is what is demonstrated, and is preferred to the model's own.
  """
  return {
    "prompt": prompt,
    "completion": edited,
    "chosen": edited,
    "rejected": answer.text,
    **answer.columns(),
    **dataclasses.asdict(origin),
  }


def thumb(prompt: str | Messages, answer: GivenAnswer, up: bool, origin: Origin) -> dict[str, Any]:
  """Makes a row of one answer, with a `label` of whether it is liked."""
  return {
    "prompt": prompt,
    "completion": answer.text,
    "label": up,
    **answer.columns(),
    **dataclasses.asdict(origin),
  }


def demonstration(messages: Messages, *, has_chat_template: bool, **more: Any) -> list[dict[str, Any]]:
  """Makes demonstrations of a conversation, of which every answer is learned.

  It is one row for a model that reads messages, else one for each answer.
  """
  if has_chat_template:
    return [{"messages": [dict(message) for message in messages], **more}]
  pairs = [pair for pair in itertools.pairwise(messages) if [each["role"] for each in pair] == ["user", "assistant"]]
  return [{"prompt": question["content"], "completion": answer["content"], **more} for question, answer in pairs]
