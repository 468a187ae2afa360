"""Serves the page of raters and takes their labels.

    GET  /             the page
    GET  /api/study    what raters do, and whether they need a key; their names only if they need none
    GET  /api/next     what the rater sees now
    POST /api/label    {"event", "item", "label"}: stores a label; answers what comes next
    POST /api/undo     {"event", "item"}: takes the last label back; answers its item

A rater says who they are by `Authorization: Bearer KEY`, or by `X-Rater: NAME` where no key is needed. All that the
API answers is about this rater.
"""

import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from posttrain_jax.labelling.keys import RaterKeys
from posttrain_jax.labelling.labels import BadLabel
from posttrain_jax.labelling.page import instructions_html, page
from posttrain_jax.labelling.session import OutOfTurn, Session
from posttrain_jax.labelling.study import LabelStudy
from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.serving.guard import GuardSettings, error_response, guarded

_REQUESTS_PER_MINUTE = 600  # of one address, where several raters may sit
_BYTES_PER_CHARACTER = 12  # of a text as JSON, at most: an emoji as two escapes


def make_app(study: LabelStudy, session: Session, keys: RaterKeys, *, host: str, port: int) -> ASGIApp:
  """Makes the application.

  Args:
    study: what is rated.
    session: stores what raters say.
    keys: who they are.
    host: where the server listens.
    port: the same.
  """
  routes = _Routes(study, session, keys)
  app = Starlette(
    routes=[
      Route("/", routes.page),
      Route("/api/study", routes.study),
      Route("/api/next", routes.next),
      Route("/api/label", routes.label, methods=["POST"]),
      Route("/api/undo", routes.undo, methods=["POST"]),
    ]
  )
  limits = GuardSettings(
    host=host,
    port=port,
    token=None,  # each rater has a key instead
    max_body_bytes=10_000 + _BYTES_PER_CHARACTER * study.settings.most_characters,
    requests_per_minute=_REQUESTS_PER_MINUTE,
  )
  return guarded(app, limits)


class _Routes:
  """Answers requests."""

  def __init__(self, study: LabelStudy, session: Session, keys: RaterKeys):
    self._study, self._session, self._keys = study, session, keys
    self._page, self._policy = page()
    rules = {name: value for name, value in dataclasses.asdict(study.settings.rules).items()}
    self._about = {
      **rules,
      "kind": str(study.settings.kind),
      "key_needed": keys.needed,
      "raters": [] if keys.needed else list(study.settings.raters),
    }
    self._instructions = instructions_html(study.instructions)

  async def page(self, request: Request) -> Response:
    return HTMLResponse(self._page, headers={"Content-Security-Policy": self._policy})

  async def study(self, request: Request) -> Response:
    return JSONResponse(self._about)

  async def next(self, request: Request) -> Response:
    async def answer(rater: str) -> Any:
      return {**self._session.view(rater), "rater": rater, "instructions": self._instructions}

    return await self._answered(request, answer)

  async def label(self, request: Request) -> Response:
    async def answer(rater: str) -> Any:
      said = await _body(request, {"event", "item", "label"})
      return self._session.label(rater, said["event"], said["item"], said["label"])

    return await self._answered(request, answer)

  async def undo(self, request: Request) -> Response:
    async def answer(rater: str) -> Any:
      said = await _body(request, {"event", "item"})
      return self._session.undo(rater, said["event"], said["item"])

    return await self._answered(request, answer)

  async def _answered(self, request: Request, answer: Callable[[str], Awaitable[Any]]) -> Response:
    headers = request.headers
    rater = self._keys.rater(authorization=headers.get("authorization", ""), name=headers.get("x-rater", ""))
    if rater is None:
      return error_response(401, "expected a rater of this study", "authentication_error")
    if request.method == "POST" and headers.get("content-type", "").partition(";")[0] != "application/json":
      return error_response(415, "expected the content type application/json")
    try:
      return JSONResponse(await answer(rater))
    except BadLabel as error:
      return error_response(422, str(error))
    except OutOfTurn as error:
      return error_response(409, str(error), "conflict_error")
    except DiskFailure:
      return error_response(503, "the label could not be stored; try again", "server_error", retry_after="5")


async def _body(request: Request, fields: set[str]) -> dict[str, Any]:
  """Reads a JSON object with exactly these fields.

  Raises:
    BadLabel: if the body is something else.
  """
  try:
    content = json.loads(await request.body())
  except (ValueError, RecursionError):
    raise BadLabel("the body is no JSON") from None
  if not isinstance(content, dict) or set(content) != fields:
    raise BadLabel(f"expected an object with {', '.join(sorted(fields))}")
  return content
