"""Serves the chat page, and takes what people say there.

GET  /             the page; it can be read without the token, and asks for it
GET  /chat/about   {"models": [{"name", "reads_messages"}], "feedback": whether it is stored}
POST /feedback     see `feedback_request`; answers {"stored": whether it was new}
"""

import dataclasses
from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.serving import feedback_request
from posttrain_jax.serving.chat_page import page
from posttrain_jax.serving.feedback_store import FeedbackStore
from posttrain_jax.serving.guard import error_response
from posttrain_jax.types import InputError

PAGE = "/"  # may be read without the token


@dataclasses.dataclass(frozen=True)
class ChatModel:
  """Describes a model that people talk with.

  Attributes:
    reads_messages: whether it has a chat template.
    max_tokens: of an answer.
  """

  reads_messages: bool
  max_tokens: int


def chat_routes(models: Mapping[str, ChatModel], feedback: FeedbackStore | None) -> list[Route]:
  """Makes the routes.

  Args:
    models: the served models by name.
    feedback: where feedback is stored; None for a page without votes and edits.
  """
  html, policy = page()
  served = [{"name": name, **dataclasses.asdict(model)} for name, model in models.items()]

  def reads_messages(name: str) -> bool | None:
    return models[name].reads_messages if name in models else None

  async def show(request: Request) -> Response:
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})

  async def about(request: Request) -> Response:
    return JSONResponse({"models": served, "feedback": feedback is not None})

  async def store(request: Request) -> Response:
    if feedback is None:
      return error_response(404, "this server stores no feedback, expected --feedback=DIR")
    body = await request.body()
    try:
      new = await run_in_threadpool(feedback_request.store, body, feedback, reads_messages)
    except InputError as error:
      return error_response(422, str(error))
    except DiskFailure as error:
      return error_response(507, str(error), "server_error")
    return JSONResponse({"stored": new})

  return [
    Route(PAGE, show),
    Route("/chat/about", about),
    Route("/feedback", store, methods=["POST"]),
  ]
