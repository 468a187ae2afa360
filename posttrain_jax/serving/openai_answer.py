"""Writes answers in the form of OpenAI's API: whole, or as the events of a stream."""

import dataclasses
import json
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.serving.completion import AnswerPiece, Ending
from posttrain_jax.serving.openai_request import ParsedRequest

DONE = "data: [DONE]\n\n"


@dataclasses.dataclass
class _Choice:
  """Holds what came of one choice."""

  text: list[str] = dataclasses.field(default_factory=list)
  logprobs: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
  tokens: int = 0
  finish_reason: str | None = None


class CompletionWriter:
  """Collects a request's pieces, and writes them whole or one by one.

  Attributes:
    version: names the parameters that drew it; empty before the first piece.
    tokens: drawn so far.
  """

  def __init__(self, asked: ParsedRequest, model: str, tokenizer: Tokenizer, *, chat: bool, prompt_tokens: int):
    """Starts without a piece.

    Args:
      asked: the request.
      model: its name.
      tokenizer: the model's.
      chat: whether messages were asked.
      prompt_tokens: of all prompts.
    """
    self._asked, self._tokenizer, self._chat, self._prompt_tokens = asked, tokenizer, chat, prompt_tokens
    self._id = f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}"
    self._created, self._model, self.version = int(time.time()), model, ""
    self._choices = [_Choice() for _ in range(asked.choices)]

  @property
  def tokens(self) -> int:
    """Counts the tokens drawn so far."""
    return sum(choice.tokens for choice in self._choices)

  @property
  def unfinished(self) -> list[int]:
    """Lists the choices that go on."""
    return [number for number, choice in enumerate(self._choices) if choice.finish_reason is None]

  def add(self, number: int, piece: AnswerPiece) -> None:
    """Takes a piece of a choice."""
    choice = self._choices[number]
    self.version = piece.version
    choice.text.append(piece.text)
    choice.tokens += len(piece.tokens)
    choice.finish_reason = piece.finish_reason
    if self._asked.logprobs:
      choice.logprobs += self._logprobs(piece)

  def cut_off(self, number: int) -> None:
    """Ends a choice where it is."""
    self._choices[number].finish_reason = Ending.LENGTH

  def whole(self) -> dict[str, Any]:
    """Returns the response to a request without a stream."""
    choices = []
    for index, choice in enumerate(self._choices):
      text = "".join(choice.text)
      said = {"message": {"role": "assistant", "content": text, "refusal": None}} if self._chat else {"text": text}
      logprobs = self._written(choice.logprobs, "")
      choices.append({"index": index, **said, "logprobs": logprobs, "finish_reason": choice.finish_reason})
    kind = "chat.completion" if self._chat else "text_completion"
    return {**self._head(kind), "choices": choices, "usage": self._usage()}

  def beginning(self) -> str:
    """Returns the first events of a stream: in a chat each choice says who speaks."""
    if not self._chat:
      return ""
    numbers = range(len(self._choices))
    return "".join(
      self._event(number, {"delta": {"role": "assistant", "content": ""}}, None, None) for number in numbers
    )

  def event(self, number: int, piece: AnswerPiece) -> str:
    """Returns the event of a piece, which was added."""
    said = {"delta": {"content": piece.text} if piece.text else {}} if self._chat else {"text": piece.text}
    choice = self._choices[number]
    logprobs = None
    if self._asked.logprobs:
      logprobs = self._written(self._logprobs(piece), "".join(choice.text[:-1]))
    return self._event(number, said, logprobs, piece.finish_reason)

  def cut_event(self, number: int) -> str:
    """Returns the event of a choice that was cut off."""
    return self._event(number, {"delta": {}} if self._chat else {"text": ""}, None, Ending.LENGTH)

  def ending(self) -> str:
    """Returns the last events of a stream: how many tokens, if asked for, and its end."""
    if not self._asked.include_usage:
      return DONE
    return _written_event({**self._head(self._chunk), "choices": [], "usage": self._usage()}) + DONE

  @property
  def _chunk(self) -> str:
    return "chat.completion.chunk" if self._chat else "text_completion"

  def _event(self, number: int, said: Mapping[str, Any], logprobs: Any, reason: str | None) -> str:
    choice = {"index": number, **said, "logprobs": logprobs, "finish_reason": reason}
    usage = {"usage": None} if self._asked.include_usage else {}
    return _written_event({**self._head(self._chunk), "choices": [choice], **usage})

  def _head(self, kind: str) -> dict[str, Any]:
    return {
      "id": self._id,
      "object": kind,
      "created": self._created,
      "model": self._model,
      "system_fingerprint": self.version or None,
    }

  def _usage(self) -> dict[str, int]:
    return {
      "prompt_tokens": self._prompt_tokens,
      "completion_tokens": self.tokens,
      "total_tokens": self._prompt_tokens + self.tokens,
    }

  def _logprobs(self, piece: AnswerPiece) -> list[Mapping[str, Any]]:
    """Describes each token of a piece, without a token that ends the answer."""
    found = []
    for at, (token, logprob) in enumerate(zip(piece.tokens, piece.logprobs)):
      if piece.finish_reason == Ending.STOP and at == len(piece.tokens) - 1 and token in self._tokenizer.stop_ids:
        break
      top = piece.top_logprobs[at] if piece.top_logprobs else ()
      found.append(
        {
          **self._token(token, logprob),
          "top_logprobs": [self._token(*each) for each in top if math.isfinite(each[1])],
        }
      )
    return found

  def _token(self, token: int, logprob: float) -> dict[str, Any]:
    text = self._tokenizer.decode([token])
    whole = "\N{REPLACEMENT CHARACTER}" not in text  # else it is a part of a character, whose bytes are not known
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if whole else None}

  def _written(self, tokens: Sequence[Mapping[str, Any]], before: str) -> Mapping[str, Any] | None:
    """Returns the logprobs of tokens as a chat or a completion has them.

    Args:
      tokens: as `_logprobs` makes them.
      before: the text before them.
    """
    if not self._asked.logprobs:
      return None
    if self._chat:
      return {"content": list(tokens), "refusal": None}
    lengths = [len(each["token"]) for each in tokens]
    tops = [{top["token"]: top["logprob"] for top in each["top_logprobs"]} for each in tokens]
    return {
      "tokens": [each["token"] for each in tokens],
      "token_logprobs": [each["logprob"] for each in tokens],
      "top_logprobs": tops if any(tops) else None,
      "text_offset": [len(before) + sum(lengths[:at]) for at in range(len(lengths))],
    }


def error_event(message: str, kind: str = "server_error") -> str:
  """Returns the event with which a stream ends that cannot go on."""
  return _written_event({"error": {"message": message, "type": kind, "param": None, "code": None}})


def _written_event(fields: Mapping[str, Any]) -> str:
  return f"data: {json.dumps(fields, ensure_ascii=False, separators=(',', ':'))}\n\n"
