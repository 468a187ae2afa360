"""Sets how a server speaks HTTP, with uvicorn."""

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol


def server_config(app: ASGIApp) -> uvicorn.Config:
  """Returns how uvicorn serves an application.

  Without `proxy_headers`: a client could write whatever address it likes, and none of its limits would hold.
  """
  return uvicorn.Config(
    app,
    http=_JoinedWrites,
    log_level="warning",
    access_log=False,
    lifespan="off",
    proxy_headers=False,
    server_header=False,
    timeout_graceful_shutdown=1,
  )


class _JoinedWrites(AutoHTTPProtocol):
  """Sends at once what is written in one turn of the loop.

  uvicorn writes headers, each part of a body and its end by themselves. Each write is a call of the system, which for
  short answers takes longer than all that the server itself does.
  """

  def connection_made(self, transport: asyncio.Transport) -> None:
    super().connection_made(_JoinedTransport(transport, self.loop))


class _JoinedTransport:
  """Stands for a connection."""

  def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
    self._transport, self._loop, self._parts = transport, loop, []

  def write(self, data: bytes) -> None:
    self._parts.append(data)
    if len(self._parts) == 1:
      self._loop.call_soon(self._send)

  def close(self) -> None:
    self._send()
    self._transport.close()

  def _send(self) -> None:
    parts, self._parts = self._parts, []
    if parts:
      self._transport.write(b"".join(parts))

  def __getattr__(self, name: str) -> Any:
    return getattr(self._transport, name)
