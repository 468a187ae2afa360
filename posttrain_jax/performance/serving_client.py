"""Asks a server from one connection, and takes as little of the machine as possible.

Requests are made before, and answers are read after the time that is measured. Meanwhile a client notes bytes and when
they came.
"""

import dataclasses
import json
import socket
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import httptools

from posttrain_jax.serving.completion import CompletionRequest

_SECONDS = 600  # without a byte, after which a server is given up
_READ_BYTES = 1 << 16
_FIELDS = ("prompt", "temperature", "top_p", "top_k", "max_tokens", "seed")


@dataclasses.dataclass(frozen=True)
class LoadAnswer:
  """Holds what a client got.

  Attributes:
    text: of the choice.
    tokens: how many the server counted.
    finish_reason: "stop" or "length".
    seconds: from the request to the last byte.
    first_token: seconds to the first text of a stream; None without a stream.
    per_token: seconds for each further token of a stream, on average; None without a stream or with one token.
  """

  text: str
  tokens: int
  finish_reason: str
  seconds: float
  first_token: float | None
  per_token: float | None


def request_bytes(address: str, request: CompletionRequest, *, stream: bool) -> bytes:
  """Writes a request as HTTP.

  Args:
    address: of the server, http://HOST:PORT/v1.
    request: whose prompt is text or ids.
    stream: whether pieces are sent as they come.
  """
  fields: dict[str, Any] = {name: getattr(request, name) for name in _FIELDS}
  if stream:
    fields |= {"stream": True, "stream_options": {"include_usage": True}}
  parts, body = urllib.parse.urlsplit(address), json.dumps(fields).encode()
  head = f"POST {parts.path}/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
  return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class RawAnswer:
  """Holds the bytes of an answer.

  The methods in lower case are called by the parser.

  Attributes:
    status: of HTTP; None before it came.
  """

  def __init__(self):
    """Starts its time."""
    self.status, self._complete = None, False
    self._begun, self._parts = time.perf_counter(), []

  def on_body(self, part: bytes) -> None:
    """Notes a part and when it came."""
    self._parts.append((time.perf_counter(), part))

  def on_message_complete(self) -> None:
    """Notes that this was all."""
    self._complete = True

  def receive(self, connection: socket.socket) -> None:
    """Receives the whole answer.

    Raises:
      RuntimeError: if the connection ends before.
    """
    parser = httptools.HttpResponseParser(self)
    while not self._complete:
      data = connection.recv(_READ_BYTES)
      if not data:
        raise RuntimeError("the connection ended before the answer did")
      parser.feed_data(data)
    self.status = parser.get_status_code()

  def read(self) -> LoadAnswer:
    """Reads the answer.

    Raises:
      RuntimeError: if it is no whole answer.
    """
    body = b"".join(part for _, part in self._parts)
    if self.status != 200:
      raise RuntimeError(f"status {self.status}: {body[:500]!r}")
    seconds = self._parts[-1][0] - self._begun
    if body.startswith(b"data: "):
      return self._stream(seconds)
    found = json.loads(body)
    choice = found["choices"][0]
    return LoadAnswer(choice["text"], found["usage"]["completion_tokens"], choice["finish_reason"], seconds, None, None)

  def _stream(self, seconds: float) -> LoadAnswer:
    text, tokens, reason, first, last = "", 0, "", None, self._begun
    for at, event in self._events():
      if "error" in event:
        raise RuntimeError(f"a stream ended with {event['error']}")
      if choices := event["choices"]:
        first, last = first or at, at
        text += choices[0]["text"]
        reason = choices[0]["finish_reason"] or reason
      tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    per_token = (last - first) / (tokens - 1) if tokens > 1 else None
    return LoadAnswer(text, tokens, reason, seconds, first - self._begun, per_token)

  def _events(self) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Yields when each event came, and the event."""
    waiting = b""
    for at, part in self._parts:
      *events, waiting = (waiting + part).split(b"\n\n")
      for event in events:
        if event == b"data: [DONE]":
          return
        yield at, json.loads(event.removeprefix(b"data: "))
    raise RuntimeError("a stream ended before its answer did")


class LoadClient:
  """Keeps a connection; a context that closes it."""

  def __init__(self, address: str):
    """Connects to a server, http://HOST:PORT/v1."""
    parts = urllib.parse.urlsplit(address)
    self._connection = socket.create_connection((parts.hostname, parts.port), _SECONDS)
    self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

  def __enter__(self) -> "LoadClient":
    return self

  def __exit__(self, *_) -> None:
    self._connection.close()

  def ask(self, request: bytes) -> RawAnswer:
    """Sends a request, and returns its answer when it is whole."""
    answer = RawAnswer()
    self._connection.sendall(request)
    answer.receive(self._connection)
    return answer
