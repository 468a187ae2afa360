"""Runs the server of a study until it is told to stop."""

import signal
import socket
from collections.abc import Callable

import uvicorn

from posttrain_jax.labelling.app import make_app
from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.keys import RaterKeys
from posttrain_jax.labelling.session import Session
from posttrain_jax.labelling.study import EVENTS, LabelStudy
from posttrain_jax.serving.access import check_binding
from posttrain_jax.types import InputError


def serve(study: LabelStudy, *, host: str, port: int, token: str | None, tell: Callable[[str], None]) -> None:
  """Serves a study until SIGTERM or Ctrl-C; requests that have come are answered before.

  Args:
    study: what is rated.
    host: where to listen.
    port: the same; 0 for a free one.
    token: that raters' keys are made from; None for none.
    tell: called with each line for whoever started the server: a link for each rater.

  Raises:
    InputError: if other machines could connect and there is no token, if the address cannot be listened at, or if the
      study is served already.
  """
  check_binding(host, token)
  with _listening(host, port) as listener, EventLog(study.path / EVENTS) as log:
    port = listener.getsockname()[1]
    keys = RaterKeys(study.settings.raters, token)
    app = make_app(study, Session(study, log), keys, host=host, port=port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    for rater in study.settings.raters:
      key = keys.key(rater)
      tell(f"{rater}: {address}#" + (f"rater={rater}" if key is None else f"key={key}"))
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", server_header=False)
    # uvicorn sends itself the signal again after its end; this one says that the end was meant.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
      uvicorn.Server(config).run(sockets=[listener])
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)


def _listening(host: str, port: int) -> socket.socket:
  """Opens the socket, so that a port in use is found before anything starts."""
  try:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind)
  except OSError as error:
    raise InputError(f"--host={host}: {error.strerror or error}") from None
  try:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen()
  except OSError as error:
    listener.close()
    raise InputError(f"--host={host} --port={port}: {error.strerror or error}, expected a free port") from None
  return listener
