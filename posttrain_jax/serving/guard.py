"""Refuses what a local page or server must not accept, before its own code sees it.

A browser on this machine reaches localhost from any page that it shows. So a request must name this server as its host
(else a foreign name was pointed here), and a write must come from a page of this server or from no page at all.
"""

import asyncio
import dataclasses
import hmac
import math
import time
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posttrain_jax.serving.access import check_binding, is_loopback

__all__ = ["GuardSettings", "check_binding", "error_response", "guarded"]

_BODY_SECONDS = 30  # within which a body must have come
_MOST_CLIENTS = 10_000  # whose counts are kept
_READS = ("GET", "HEAD")
_NAMES = ("localhost", "127.0.0.1", "[::1]")
# Applied unless the response has its own. Scripts and styles are files of this server.
_HEADERS = {
  "Content-Security-Policy": (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
  ),
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Cache-Control": "no-store",
}


@dataclasses.dataclass(frozen=True)
class GuardSettings:
  """Holds what a guard checks.

  Attributes:
    host: the address that the server listens at.
    port: its port. A loopback server is asked for by this port, also through a tunnel.
    token: what each request must show, as `Authorization: Bearer TOKEN`; None for no such check.
    max_body_bytes: limit on a request's body.
    requests_per_minute: of one client address; as many may come at once.
  """

  host: str
  port: int
  token: str | None
  max_body_bytes: int
  requests_per_minute: int


def guarded(app: ASGIApp, settings: GuardSettings, *, without_token: Collection[str] = ()) -> ASGIApp:
  """Puts the guard around an application.

  Args:
    app: the application.
    settings: what is checked.
    without_token: paths that may be read without the token, such as a page that asks for it.
  """
  return _Guard(app, settings, frozenset(without_token))


def error_response(status: int, message: str, kind: str = "invalid_request_error", **more: str | None) -> JSONResponse:
  """Makes a response with OpenAI's error object.

  Args:
    status: of HTTP.
    message: one line: what, and what was expected.
    kind: OpenAI's `type`.
    **more: `param` and `code`, and as `retry_after` the seconds after which to try again.
  """
  headers = {"Retry-After": more["retry_after"]} if "retry_after" in more else {}
  error = {"message": message, "type": kind, "param": more.get("param"), "code": more.get("code")}
  return JSONResponse({"error": error}, status, headers)


class _Guard:
  def __init__(self, app: ASGIApp, settings: GuardSettings, without_token: frozenset[str]):
    self._app, self._settings, self._without_token = app, settings, without_token
    self._allowances = _Allowances(settings.requests_per_minute)

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
      await self._app(scope, receive, send)
      return
    if scope["type"] != "http":
      await send({"type": "websocket.close", "code": 1008})
      return
    send = _with_headers(send)
    refusal = self._refusal(scope)
    body = None
    if refusal is None:
      try:
        async with asyncio.timeout(_BODY_SECONDS):
          body = await _read(receive, self._settings.max_body_bytes)
      except TimeoutError:
        refusal = error_response(408, f"the body did not come within {_BODY_SECONDS} seconds")
      except _TooLargeError:
        refusal = error_response(
          413, f"the body has more than {self._settings.max_body_bytes} bytes, which is the limit"
        )
    if refusal is not None:
      # What is left of the body is not read.
      refusal.headers["Connection"] = "close"
      await refusal(scope, receive, send)
    elif body is not None:
      await self._app(scope, _replay(body, receive), send)

  def _refusal(self, scope: Scope) -> JSONResponse | None:
    """Answers a request that is refused for its headers; None for the others."""
    headers, settings = Headers(scope=scope), self._settings
    host = headers.get("host", "")
    if is_loopback(settings.host) and host.lower() not in _hosts(settings.port):
      return error_response(403, "the Host header does not name this server", "permission_error")
    wait = self._allowances.wait((scope.get("client") or ("",))[0])
    if wait:
      message = f"more than {settings.requests_per_minute} requests in a minute"
      return error_response(429, message, "rate_limit_error", retry_after=str(wait))
    if scope["method"] not in _READS and not _from_here(headers, host):
      return error_response(403, "the request comes from a page of another origin", "permission_error")
    if settings.token is not None and not (scope["method"] in _READS and scope["path"] in self._without_token):
      shown = headers.get("authorization", "")
      if not hmac.compare_digest(shown.encode(), f"Bearer {settings.token}".encode()):
        refused = error_response(401, "expected the header Authorization: Bearer TOKEN", "authentication_error")
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused
    length = headers.get("content-length", "0")
    if not length.isdecimal():
      return error_response(400, "the Content-Length is not a number")
    if int(length[:20]) > settings.max_body_bytes:
      return self._too_large()
    return None

  def _too_large(self) -> JSONResponse:
    return error_response(413, f"the body has more than {self._settings.max_body_bytes} bytes, which is the limit")


def _hosts(port: int) -> set[str]:
  return {f"{name}:{port}" for name in _NAMES} | (set(_NAMES) if port == 80 else set())


def _from_here(headers: Headers, host: str) -> bool:
  """Says whether a write comes from a page of this server, or from a program that is no browser."""
  origin, site = headers.get("origin"), headers.get("sec-fetch-site")
  same = origin is None or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
  return same and site in (None, "same-origin", "none")


class _TooLargeError(Exception):
  """Says that a body is larger than allowed."""


async def _read(receive: Receive, most: int) -> bytes | None:
  """Reads the whole body; None if the client left before its end."""
  parts, size = [], 0
  while True:
    message = await receive()
    if message["type"] == "http.disconnect":
      return None
    parts.append(message.get("body", b""))
    size += len(parts[-1])
    if size > most:
      raise _TooLargeError
    if not message.get("more_body", False):
      return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
  """Returns a `receive` that gives the body, and then what comes from the client."""
  waiting = [{"type": "http.request", "body": body, "more_body": False}]

  async def replayed() -> Message:
    return waiting.pop() if waiting else await receive()

  return replayed


def _with_headers(send: Send) -> Send:
  async def sent(message: Message) -> None:
    if message["type"] == "http.response.start":
      headers = MutableHeaders(scope=message)
      for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    await send(message)

  return sent


class _Allowances:
  """Counts the requests of each client: a bucket of a minute's requests, filled up evenly."""

  def __init__(self, per_minute: int):
    self._most, self._filled = per_minute, {}

  def wait(self, client: str) -> int:
    """Takes one request from a client's allowance; returns after how many seconds there is one if there is none."""
    now = time.monotonic()
    left, at = self._filled.pop(client, (self._most, now))
    left = min(self._most, left + (now - at) * self._most / 60)
    allowed = left >= 1
    self._filled[client] = (left - allowed, now)  # the newest last
    if len(self._filled) > _MOST_CLIENTS:
      del self._filled[next(iter(self._filled))]
    return 0 if allowed else math.ceil((1 - left) * 60 / self._most)
