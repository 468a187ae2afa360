"""Serves the chat page with answers that a test chose, in a thread, on a port of this machine."""

import contextlib
import json
import socket
import threading
import time

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from posttrain_jax.serving.chat_routes import PAGE, ChatModel, chat_routes
from posttrain_jax.serving.feedback_store import FeedbackStore
from posttrain_jax.serving.guard import GuardSettings, guarded


@contextlib.contextmanager
def fake_chat(answer, folder, *, models=None, token=None, stores=True):
  """Runs the server.

  Args:
    answer: returns the pieces of an answer, given the request.
    folder: of the feedback.
    models: names to whether they have a chat template.
    token: that the server asks for.
    stores: whether feedback is stored.

  Yields:
    (its address, the requests so far).
  """
  requests = []

  async def complete(request):
    asked = await request.json()
    requests.append(asked)

    async def events():
      for piece in answer(asked):
        if isinstance(piece, float):
          await anyio.sleep(piece)
        else:
          chunk = {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
          yield f"data: {json.dumps({**chunk, 'system_fingerprint': 'v5'})}\n\n"
      last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "system_fingerprint": "v5"}
      yield f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")

  with FeedbackStore(folder) as store, socket.socket() as listening:
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    served = {name: ChatModel(reads, 100) for name, reads in (models or {"small": True, "large": True}).items()}
    routes = chat_routes(served, store if stores else None)
    app = Starlette(routes=[*routes, Route("/v1/chat/completions", complete, methods=["POST"])])
    limits = GuardSettings("127.0.0.1", port, token, 1_000_000, 10_000)
    config = uvicorn.Config(guarded(app, limits, without_token={PAGE}), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
      while not server.started:
        time.sleep(0.01)
      yield f"http://127.0.0.1:{port}", requests
    finally:
      server.should_exit = True
      thread.join()
