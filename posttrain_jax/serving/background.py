"""Runs an application in a thread, for a program that is its client, too."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from posttrain_jax.serving.http_protocol import server_config

_LOOK_SECONDS = 0.01


@contextlib.contextmanager
def in_background(app: ASGIApp, bound: socket.socket) -> Iterator[str]:
  """Serves as long as the context is open.

  Args:
    app: the application, with its guard.
    bound: the address, from `server.listen`.

  Yields:
    Its URL, when requests are taken.

  Raises:
    RuntimeError: if the server ends before it takes requests.
  """
  server = uvicorn.Server(server_config(app))
  thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="server", daemon=True)
  thread.start()
  try:
    while not server.started:
      if not thread.is_alive():
        raise RuntimeError("the server ended before it took requests")
      time.sleep(_LOOK_SECONDS)
    host, port = bound.getsockname()[:2]
    yield f"http://{host}:{port}"
  finally:
    server.should_exit = True
    thread.join()
