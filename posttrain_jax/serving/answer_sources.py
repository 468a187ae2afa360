"""Gives a chat its answers, from a model in this process or from a server."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from posttrain_jax.serving.chat_session import ChatSampling
from posttrain_jax.serving.completion import CompletionRequest
from posttrain_jax.serving.running_model import RunningModel
from posttrain_jax.types import InputError

_SECONDS = 600  # without a piece, after which a server is given up
_MOST_LINE = 1 << 20  # bytes of a line of a stream


class AnswerSource(Protocol):
  """Answers messages piece by piece.

  Attributes:
    model: the name of the model.
    version: of the parameters that drew the last answer; None if it is not known.
  """

  model: str
  version: str | None

  def answer(self, messages: Sequence[Mapping[str, str]], sampling: ChatSampling) -> Iterator[str]:
    """Yields the pieces of an answer; closing the iterator stops it."""
    ...


class LocalAnswers:
  """Answers with a model in this process."""

  def __init__(self, running: RunningModel, model: str):
    """Takes the running model and its name."""
    self.model, self.version, self._running = model, None, running

  def answer(self, messages: Sequence[Mapping[str, str]], sampling: ChatSampling) -> Iterator[str]:
    """Yields the pieces of an answer.

    Raises:
      InputError: if the messages are too long for the model.
      Refused: if the model takes no request.
    """
    request = CompletionRequest(
      prompt=tuple(messages),
      temperature=sampling.temperature,
      top_p=sampling.top_p,
      top_k=0,
      min_p=0.0,
      max_tokens=sampling.max_tokens,
      stop=(),
      seed=sampling.seed,
      n=1,
      top_logprobs=0,
    )
    for piece in self._running.pieces(request):
      self.version = str(piece.version)
      if piece.text:
        yield piece.text


class ServerAnswers:
  """Answers through a server with OpenAI's API.

  Attributes:
    reads_messages: whether the model has a chat template, as far as the server tells.
    max_tokens: of an answer; None if the server does not tell.
  """

  def __init__(self, url: str, model: str | None, token: str | None):
    """Asks the server for its models.

    Args:
      url: of the server, such as http://localhost:8000.
      model: name of one of its models; None for the first one.
      token: that the server asks for; None if it asks for none.

    Raises:
      InputError: if there is no such server or model.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
      raise InputError(f"--server={url}: expected http://HOST:PORT")
    self._url, self._token, self.version = url.rstrip("/").removesuffix("/v1"), token, None
    with self._open("/v1/models", None) as response:
      served = {each["id"]: each for each in self._json(response.read(_MOST_LINE)).get("data", ())}
    models = list(served)
    if not models or (model is not None and model not in models):
      raise InputError(
        f"--model={model}: --server={url} serves {', '.join(models) or 'nothing'}, expected one of these"
      )
    self.model = model or models[0]
    self.reads_messages = self._reads_messages()
    self.max_tokens = served[self.model].get("max_completion_tokens")

  def answer(self, messages: Sequence[Mapping[str, str]], sampling: ChatSampling) -> Iterator[str]:
    """Yields the pieces of an answer.

    Raises:
      InputError: if the server refuses the request, or the connection ends before the answer does.
    """
    asked = {
      "model": self.model,
      "messages": list(messages),
      "temperature": sampling.temperature,
      "top_p": sampling.top_p,
      "max_tokens": sampling.max_tokens,
      "stream": True,
      **({} if sampling.seed is None else {"seed": sampling.seed}),
    }
    with self._open("/v1/chat/completions", json.dumps(asked).encode()) as response:
      while line := self._line(response):
        if not line.startswith(b"data:"):
          continue
        data = line[5:].strip()
        if data == b"[DONE]":
          return
        chunk = self._json(data)
        if "error" in chunk:
          raise InputError(f"--server: {chunk['error'].get('message')}")
        self.version = chunk.get("system_fingerprint") or self.version
        for choice in chunk.get("choices", ()):
          if text := choice.get("delta", {}).get("content"):
            yield text
    raise InputError("--server: the connection ended before the answer did")

  def _reads_messages(self) -> bool:
    try:
      with self._open("/chat/about", None) as response:
        about = self._json(response.read(_MOST_LINE))
        return next(each["reads_messages"] for each in about["models"] if each["name"] == self.model)
    except (InputError, LookupError, TypeError, StopIteration):  # another server than experiments.serve
      return True

  def _line(self, response: Any) -> bytes:
    try:
      return response.readline(_MOST_LINE)
    except OSError as error:
      raise InputError(f"--server: {error}") from None

  def _json(self, text: bytes) -> Mapping[str, Any]:
    try:
      found = json.loads(text)
    except ValueError:
      found = None
    if not isinstance(found, Mapping):
      raise InputError(f"--server={self._url}: found {text[:40]!r}, expected a server with OpenAI's API")
    return found

  def _open(self, path: str, body: bytes | None) -> Any:
    headers = {"Content-Type": "application/json"}
    if self._token is not None:
      headers["Authorization"] = f"Bearer {self._token}"
    request = urllib.request.Request(f"{self._url}{path}", body, headers)
    try:
      return urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
      try:
        message = json.loads(error.read(_MOST_LINE))["error"]["message"]
      except (ValueError, LookupError, TypeError, OSError):
        message = error.reason
      raise InputError(f"--server: {error.code}: {message}") from None
    except (OSError, ValueError) as error:
      reason = getattr(error, "reason", error)
      raise InputError(f"--server={self._url}: {reason}, expected a running experiments.serve") from None
