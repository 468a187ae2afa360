"""Runs an application until the process is told to end, and ends it gracefully."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from posttrain_jax.serving.garbage import collect_rarely
from posttrain_jax.serving.http_protocol import server_config
from posttrain_jax.types import InputError

_LOOK_SECONDS = 0.05  # between two looks at whether the last answer is sent


class Closable(Protocol):
  """Names what is told and asked of an application that ends.

  Attributes:
    closing: whether it refuses new requests.
    under_way: requests that are being answered.
  """

  closing: bool
  under_way: int


def listen(host: str, port: int) -> socket.socket:
  """Binds an address.

  Args:
    host: name or address.
    port: 0 for a free one.

  Raises:
    InputError: if it cannot be bound.
  """
  try:
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(address)
  except (OSError, OverflowError) as error:
    reason = getattr(error, "strerror", None) or error
    raise InputError(f"--host={host} --port={port}: cannot listen there: {reason}") from None
  return bound


def serve(app: ASGIApp, bound: socket.socket, closable: Closable, *, ready: Callable[[], None], seconds: float) -> int:
  """Serves until SIGTERM or Ctrl-C.

  From then on new requests are refused, and those under way are finished, within a time. A second signal ends it at
  once.

  Args:
    app: the application, with its guard.
    bound: the address.
    closable: what is told that the end has come.
    ready: is called when requests are taken.
    seconds: in which running answers may finish.

  Returns:
    How many answers were cut off.
  """
  config = server_config(app)
  collect_rarely()
  with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
    return runner.run(_serve(_Server(config), bound, closable, ready, seconds))


class _Server(uvicorn.Server):
  """Leaves signals to `serve`.

  uvicorn would close its socket at once, and refuse connections instead of answering them.
  """

  @contextlib.contextmanager
  def capture_signals(self) -> Iterator[None]:
    yield


async def _serve(
  server: _Server, bound: socket.socket, closable: Closable, ready: Callable[[], None], seconds: float
) -> int:
  told, again = asyncio.Event(), asyncio.Event()
  loop = asyncio.get_running_loop()
  for name in (signal.SIGTERM, signal.SIGINT):
    loop.add_signal_handler(name, lambda: again.set() if told.is_set() else told.set())
  serving = asyncio.create_task(server.serve(sockets=[bound]))
  while not server.started and not serving.done():
    await asyncio.sleep(_LOOK_SECONDS)
  if not serving.done():
    ready()
    ended = asyncio.create_task(told.wait())
    await asyncio.wait([ended, serving], return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
  closable.closing = True
  until = loop.time() + seconds
  while closable.under_way and not again.is_set() and loop.time() < until and not serving.done():
    await asyncio.sleep(_LOOK_SECONDS)
  cut = closable.under_way
  server.should_exit = True
  server.force_exit = cut > 0
  await serving
  return cut
