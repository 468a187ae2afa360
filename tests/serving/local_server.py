"""Runs an application on a free port of this machine; needs the extra `serve`."""

import contextlib

from posttrain_jax.serving.app import RequestLimits, ServingApp
from posttrain_jax.serving.background import in_background
from posttrain_jax.serving.guard import GuardSettings, guarded
from posttrain_jax.serving.server import listen

LIMITS = RequestLimits(seconds=60.0, per_client=64)


@contextlib.contextmanager
def served(app, **guard):
  """Runs an application on a free port in a thread, with its guard; gives its address."""
  bound = listen("127.0.0.1", 0)
  port = bound.getsockname()[1]
  settings = dict(host="127.0.0.1", port=port, token=None, max_body_bytes=100_000, requests_per_minute=100_000)
  app = guarded(app.asgi, GuardSettings(**(settings | guard)), without_token=("/health",))
  with in_background(app, bound) as url:
    yield url


def new_app(model, limits=LIMITS, routes=(), **more):
  return ServingApp({"tiny": model, **more}, limits, routes)
