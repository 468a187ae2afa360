"""Tests a server in a thread of the program that asks it."""

import urllib.request

import pytest

pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from posttrain_jax.serving.background import in_background
from posttrain_jax.serving.server import listen


async def hello(request):
  return PlainTextResponse("hello")


def test_it_serves_as_long_as_the_context_is_open():
  app = Starlette(routes=[Route("/", hello)])
  with in_background(app, listen("127.0.0.1", 0)) as url:
    assert urllib.request.urlopen(url, timeout=10).read() == b"hello"
  with pytest.raises(OSError):
    urllib.request.urlopen(url, timeout=2)


def test_what_it_is_used_for_may_fail():
  with pytest.raises(ZeroDivisionError), in_background(Starlette(), listen("127.0.0.1", 0)):
    _ = 1 / 0
