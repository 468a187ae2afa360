"""Reads the body of a request in the form of OpenAI's API.

A parameter that would change the answer and is not supported is refused, unless it has the value that changes nothing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.serving.completion import CompletionRequest

MOST_CHOICES = 128
MOST_STOPS = 16
LONGEST_STOP = 256  # characters
MOST_ALTERNATIVES = 20
HOTTEST = 2.0
COOLEST = 0.01  # besides 0

# What says nothing about the answer.
_IGNORED = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
# What is accepted with these values, which change nothing; None always is.
_NEUTRAL = {
  "frequency_penalty": (0,),
  "presence_penalty": (0,),
  "repetition_penalty": (1,),
  "logit_bias": ({},),
  "response_format": ({"type": "text"},),
  "tools": ([],),
  "tool_choice": ("none",),
  "functions": ([],),
  "parallel_tool_calls": (True, False),
  "modalities": (["text"],),
  "best_of": (1,),
  "echo": (False,),
  "suffix": ("",),
}
_COMMON = {"model", "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "n", "stream"}
_COMMON |= {"stream_options", "logprobs"}
_CHAT = _COMMON | {"messages", "max_completion_tokens", "top_logprobs"}
_TEXT = _COMMON | {"prompt"}


class BadRequest(Exception):
  """Says what is wrong with a request.

  Attributes:
    status: of HTTP.
    param: which parameter.
    code: OpenAI's `code`.
  """

  def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
    super().__init__(message)
    self.status, self.param, self.code = status, param, code


class ParsedRequest:
  """Holds a request as it was read.

  Attributes:
    model: which model is asked; None for the first one.
    asked: one request for each prompt.
    stream: whether pieces are sent as they come.
    include_usage: whether a stream ends with the number of tokens.
    logprobs: whether logprobs are reported.
    bytes: of the body.
  """

  def __init__(self, body: bytes, *, chat: bool):
    """Reads a body.

    Args:
      body: JSON.
      chat: whether it asks with messages; else with a prompt.

    Raises:
      BadRequest: if it is malformed, has values out of range, or asks for what is not supported.
    """
    self._fields, self.bytes = _json(body), len(body)
    _refuse_unknown(self._fields, _CHAT if chat else _TEXT)
    self.model = self._of_type("model", str, "text")
    self.stream = bool(self._of_type("stream", bool, "true or false"))
    options = self._of_type("stream_options", dict, "an object") or {}
    if set(options) - {"include_usage", "include_obfuscation"} or (not self.stream and options):
      raise BadRequest(400, "stream_options: expected include_usage alone, in a stream", "stream_options")
    self.include_usage = options.get("include_usage") is True
    self.logprobs, alternatives = self._logprobs(chat)
    prompts = [self._messages()] if chat else self._prompts()
    cap = self._whole("max_completion_tokens", 1, math.inf) if chat else None
    if cap is None:
      cap = self._whole("max_tokens", 1, math.inf)
    temperature = self._number("temperature", 0, HOTTEST, 1.0)
    if 0 < temperature < COOLEST:
      raise BadRequest(422, f"temperature: {temperature}, expected 0 or {COOLEST} to {HOTTEST}", "temperature")
    top_p = self._number("top_p", 0, 1, 1.0)
    if not top_p:
      raise BadRequest(422, "top_p: 0, expected more than 0, up to 1", "top_p")
    common = dict(
      temperature=temperature,
      top_p=top_p,
      top_k=self._whole("top_k", 0, 2**31 - 1) or 0,
      min_p=self._number("min_p", 0, 1, 0.0),
      max_tokens=cap,
      stop=self._stop(),
      seed=self._whole("seed", -(2**63), 2**63 - 1),
      n=self._whole("n", 1, MOST_CHOICES) or 1,
      top_logprobs=alternatives,
    )
    self.asked = [CompletionRequest(prompt=prompt, **common) for prompt in prompts]

  @property
  def choices(self) -> int:
    """Counts the choices of all prompts."""
    return sum(each.n for each in self.asked)

  def _of_type(self, name: str, kind: type, expected: str) -> Any:
    value = self._fields.get(name)
    if value is not None and not isinstance(value, kind):
      raise BadRequest(422, f"{name}: {_shown(value)}, expected {expected}", name)
    return value

  def _whole(self, name: str, least: float, most: float) -> int | None:
    value = self._fields.get(name)
    if value is None:
      return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
      expected = f"a whole number of at least {least}" if most == math.inf else f"a whole number from {least} to {most}"
      raise BadRequest(422, f"{name}: {_shown(value)}, expected {expected}", name)
    return value

  def _number(self, name: str, least: float, most: float, default: float) -> float:
    value = self._fields.get(name)
    if value is None:
      return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
      raise BadRequest(422, f"{name}: {_shown(value)}, expected a number from {least} to {most}", name)
    return float(value)

  def _stop(self) -> tuple[str, ...]:
    value = self._fields.get("stop")
    texts = [] if value is None else [value] if isinstance(value, str) else value
    good = isinstance(texts, list) and len(texts) <= MOST_STOPS
    if not (good and all(isinstance(text, str) and 0 < len(text) <= LONGEST_STOP for text in texts)):
      expected = f"up to {MOST_STOPS} texts of 1 to {LONGEST_STOP} characters"
      raise BadRequest(422, f"stop: {_shown(value)}, expected {expected}", "stop")
    return tuple(texts)

  def _logprobs(self, chat: bool) -> tuple[bool, int]:
    if not chat:
      number = self._whole("logprobs", 0, MOST_ALTERNATIVES)
      return number is not None, number or 0
    asked = bool(self._of_type("logprobs", bool, "true or false"))
    number = self._whole("top_logprobs", 0, MOST_ALTERNATIVES)
    if number and not asked:
      raise BadRequest(422, "top_logprobs: expected logprobs=true as well", "top_logprobs")
    return asked, number or 0

  def _messages(self) -> tuple[Mapping[str, Any], ...]:
    messages = self._fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
      raise BadRequest(422, f"messages: {_shown(messages)}, expected a list of messages, not empty", "messages")
    return tuple(messages)

  def _prompts(self) -> Sequence[str | tuple[int, ...]]:
    prompt = self._fields.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) or _are_ids(prompt) else prompt
    good = isinstance(prompts, list) and 0 < len(prompts) <= MOST_CHOICES
    if not good or not all((isinstance(each, str) and each) or _are_ids(each) for each in prompts):
      expected = f"text or token ids, or up to {MOST_CHOICES} of them, none empty"
      raise BadRequest(422, f"prompt: {_shown(prompt)}, expected {expected}", "prompt")
    return [each if isinstance(each, str) else tuple(each) for each in prompts]


def _json(body: bytes) -> dict[str, Any]:
  try:
    fields = json.loads(body)
    json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()  # refuses halves of characters, NaN and infinity
  except (ValueError, RecursionError) as error:
    raise BadRequest(400, f"the body is not JSON: {' '.join(str(error).split())[:200]}") from None
  if not isinstance(fields, dict):
    raise BadRequest(400, f"the body is {_shown(fields)}, expected a JSON object")
  return fields


def _refuse_unknown(fields: Mapping[str, Any], known: set[str]) -> None:
  for name, value in fields.items():
    if name in known or name in _IGNORED or (name in _NEUTRAL and (value is None or value in _NEUTRAL[name])):
      continue
    allowed = " or ".join(json.dumps(each) for each in _NEUTRAL.get(name, ()))
    expected = f"expected {allowed}, or none" if allowed else "expected none"
    raise BadRequest(400, f"{_shown(name)}: is not supported, {expected}", name[:64], "unsupported_parameter")


def _are_ids(value: Any) -> bool:
  return (
    isinstance(value, list)
    and bool(value)
    and all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**31 for each in value)
  )


def _shown(value: Any) -> str:
  text = json.dumps(value, ensure_ascii=False) if not isinstance(value, float) else str(value)
  return text if len(text) <= 60 else f"{text[:60]}..."
