"""Puts served models behind OpenAI's API: an ASGI application on Starlette.

POST /v1/chat/completions   POST /v1/completions   GET /v1/models   GET /health   GET /metrics
"""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from posttrain_jax.serving.answering import Answering, ClientLeft
from posttrain_jax.serving.completion import Refused, one_line
from posttrain_jax.serving.guard import error_response
from posttrain_jax.serving.mailbox import Mailbox
from posttrain_jax.serving.metrics import ServingMetrics
from posttrain_jax.serving.openai_request import BadRequest, ParsedRequest
from posttrain_jax.serving.running_model import RunningModel
from posttrain_jax.types import InputError

WITHOUT_TOKEN = ("/health",)
_LEFT = 499  # nginx's status for a client that left; nobody reads it


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequestLimits:
  """Holds limits on requests that hold for all models.

  Attributes:
    seconds: after which an answer ends where it is, with the finish reason "length".
    per_client: requests of one client address under way at the same time.
  """

  seconds: float
  per_client: int


class ServingApp:
  """Answers requests to some models.

  Attributes:
    asgi: the application.
    closing: whether new requests are refused, because the server is shutting down.
  """

  def __init__(self, models: Mapping[str, RunningModel], limits: RequestLimits, routes: Sequence[BaseRoute] = ()):
    """Makes the application.

    Args:
      models: by name; the first one is asked if a request names none.
      limits: on requests.
      routes: further ones, such as those of pages.
    """
    self._models, self._limits, self._metrics = models, limits, ServingMetrics(models)
    self._started = int(time.time())
    self._under_way: collections.Counter[str] = collections.Counter()  # requests of each client
    self.closing = False
    self._mailbox: Mailbox | None = None  # made in the loop
    own = [
      Route("/v1/chat/completions", _Endpoint(self, chat=True), methods=["POST"]),
      Route("/v1/completions", _Endpoint(self, chat=False), methods=["POST"]),
      Route("/v1/models", self._list, methods=["GET"]),
      Route("/v1/models/{name:path}", self._one, methods=["GET"]),
      Route("/health", self._health, methods=["GET"]),
      Route("/metrics", self._measured, methods=["GET"]),
    ]
    self.asgi = Starlette(routes=[*own, *routes], exception_handlers={HTTPException: _http_error, Exception: _failure})

  @property
  def under_way(self) -> int:
    """Counts the requests that are being answered."""
    return self._under_way.total()

  async def answer(self, scope: Scope, receive: Receive, send: Send, *, chat: bool) -> None:
    """Answers one request for completions, from its body to the last byte that is sent."""
    request = Request(scope, receive)
    client = request.client.host if request.client else ""
    if self._under_way[client] >= self._limits.per_client:
      message = f"{self._limits.per_client} requests of this client are under way, which is the limit"
      response = error_response(429, message, "rate_limit_error", retry_after="1")
      await self._send(response, scope, receive, send)
      return
    self._under_way[client] += 1
    try:
      await self._send(await self._response(request, chat=chat), scope, receive, send)
    finally:
      self._under_way[client] -= 1
      self._under_way += collections.Counter()  # forgets clients without a request

  async def _send(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    self._metrics.requests.labels(scope["path"], response.status_code).inc()
    await response(scope, receive, send)

  async def _response(self, request: Request, *, chat: bool) -> Response:
    try:
      if self.closing:
        raise Refused("the server is shutting down", busy=False)
      asked = ParsedRequest(await request.body(), chat=chat)
      name = asked.model or next(iter(self._models))
      self._mailbox = self._mailbox or Mailbox(asyncio.get_running_loop())
      common = dict(metrics=self._metrics, mailbox=self._mailbox, seconds=self._limits.seconds)
      answering = Answering(self._model(name), name, asked, **common)
      await answering.submit(chat=chat)
      return answering.stream() if asked.stream else await answering.whole(request)
    except BadRequest as bad:
      return error_response(bad.status, str(bad), param=bad.param, code=bad.code)
    except InputError as error:
      return error_response(422, str(error))
    except Refused as refused:
      return _refusal(refused)
    except ClientLeft:
      return Response(status_code=_LEFT)
    except Exception as error:  # what the engine failed with
      return await _failure(request, error)

  def _model(self, name: str) -> RunningModel:
    if name not in self._models:
      raise BadRequest(
        404, f"model: {name!r:.80}, expected one of {', '.join(self._models)}", "model", "model_not_found"
      )
    return self._models[name]

  async def _list(self, request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [self._described(name) for name in self._models]})

  async def _one(self, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in self._models:
      return error_response(404, f"there is no model {name!r:.80}", code="model_not_found")
    return JSONResponse(self._described(name))

  def _described(self, name: str) -> dict[str, Any]:
    model = self._models[name]
    return {
      "id": name,
      "object": "model",
      "created": self._started,
      "owned_by": "posttrain_jax",
      "system_fingerprint": model.version,
      "max_prompt_tokens": model.sizes.max_prompt_length,
      "max_completion_tokens": model.sizes.max_new_tokens,
    }

  async def _health(self, request: Request) -> Response:
    failed = {name: str(model.failure) for name, model in self._models.items() if model.failure is not None}
    if self.closing or failed:
      return JSONResponse({"status": "shutting down" if self.closing else "failed", "failed": failed}, 503)
    return JSONResponse({"status": "ok", "models": {name: model.version for name, model in self._models.items()}})

  async def _measured(self, request: Request) -> Response:
    return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


class _Endpoint:
  """Hands on a request and the way to send, which tells when all is sent."""

  def __init__(self, app: ServingApp, *, chat: bool):
    self._app, self._chat = app, chat

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    await self._app.answer(scope, receive, send, chat=self._chat)


def _refusal(refused: Refused) -> Response:
  if refused.busy:
    return error_response(429, str(refused), "rate_limit_error", retry_after="1")
  return error_response(503, str(refused), "server_error", retry_after="5")


async def _http_error(request: Request, error: HTTPException) -> Response:
  response = error_response(error.status_code, f"{request.method} {request.url.path:.80}: {error.detail}")
  response.headers.update(error.headers or {})
  return response


async def _failure(request: Request, error: Exception) -> Response:
  logging.error("%s %s: %s", request.method, request.url.path, error)
  return error_response(500, one_line(error), "server_error")
