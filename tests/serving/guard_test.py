"""Tests what the guard lets through, with raw requests as hostile pages and programs send them."""

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")

import anyio
import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from posttrain_jax.serving import guard
from posttrain_jax.serving.guard import GuardSettings, guarded
from posttrain_jax.types import InputError

TOKEN = "a-token-of-twenty-ch"
LOCAL = GuardSettings(host="127.0.0.1", port=8000, token=None, max_body_bytes=100, requests_per_minute=1000)


async def _echo(request):
  return JSONResponse({"size": len(await request.body())})


async def _page(request):
  return PlainTextResponse("page", headers={"Content-Security-Policy": "default-src 'self'"})


APP = Starlette(routes=[Route("/echo", _echo, methods=["GET", "POST"]), Route("/", _page)])


def ask(settings=LOCAL, method="POST", path="/echo", content=b"abc", headers=(), app=None, **guard_options):
  """Sends one request to a new guard, or to a given one."""

  async def send():
    transport = httpx.ASGITransport(app or guarded(APP, settings, **guard_options), client=("10.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
      return await client.request(method, path, content=content, headers=dict(headers))

  return anyio.run(send)


def test_a_request_passes_with_its_whole_body():
  found = ask(content=b"x" * 100)
  assert (found.status_code, found.json()) == (200, {"size": 100})
  assert found.headers["x-content-type-options"] == "nosniff"
  assert found.headers["x-frame-options"] == "DENY"
  assert "script-src 'self'" in found.headers["content-security-policy"]
  assert "unsafe" not in found.headers["content-security-policy"]


def test_a_page_may_have_a_policy_of_its_own():
  assert ask(method="GET", path="/").headers["content-security-policy"] == "default-src 'self'"


@pytest.mark.parametrize(
  "host", ["evil.example", "evil.example:8000", "localhost:9", "localhost", "localhost.evil:8000"]
)
def test_a_foreign_name_that_points_here_is_refused(host):
  assert ask(headers={"Host": host}).status_code == 403
  assert ask(method="GET", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:8000"])
def test_the_names_of_this_machine_pass(host):
  assert ask(headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
  "headers",
  [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:9000"},
    {"Origin": "http://localhost:8000.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "cross-site"},
  ],
)
def test_writes_of_other_origins_are_refused(headers):
  assert ask(headers=headers).status_code == 403
  assert ask(method="DELETE", headers=headers).status_code == 403
  assert ask(method="OPTIONS", headers=headers).status_code == 403


def test_writes_of_own_pages_pass_and_so_do_links_from_elsewhere():
  assert ask(headers={"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}).status_code == 200
  assert ask(method="GET", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_bodies_have_a_limit_whether_their_length_is_told_or_not():
  async def parts():
    for _ in range(40):
      yield b"x" * 10

  found = ask(content=b"x" * 101)
  assert found.status_code == 413 and "100 bytes" in found.json()["error"]["message"]
  assert ask(content=parts()).status_code == 413
  assert ask(headers={"Content-Length": "x"}).status_code == 400
  assert ask(headers={"Content-Length": "9" * 400}).status_code == 413


def test_a_body_that_does_not_come_ends(monkeypatch):
  monkeypatch.setattr(guard, "_BODY_SECONDS", 0.01)

  async def parts():
    yield b"x"
    await anyio.sleep(60)

  assert ask(content=parts()).status_code == 408


def test_the_token_is_needed_and_compared():
  settings = GuardSettings("0.0.0.0", 8000, TOKEN, 100, 1000)
  for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}, {"Authorization": "Bearer é"}):
    encoded = {name: value.encode() for name, value in headers.items()}
    found = ask(settings, headers=encoded)
    assert found.status_code == 401 and TOKEN not in found.text
    assert found.headers["www-authenticate"] == "Bearer"
  assert ask(settings, headers={"Authorization": f"Bearer {TOKEN}", "Host": "gpu.example:8000"}).status_code == 200


def test_a_path_that_asks_for_the_token_may_be_read_and_not_written():
  settings = GuardSettings("127.0.0.1", 8000, TOKEN, 100, 1000)
  assert ask(settings, "GET", "/echo", without_token={"/echo"}).status_code == 200
  assert ask(settings, "POST", "/echo", without_token={"/echo"}).status_code == 401
  assert ask(settings, "GET", "/", without_token={"/echo"}).status_code == 401


def test_a_client_has_its_requests_a_minute(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
  app = guarded(APP, GuardSettings("127.0.0.1", 8000, None, 100, 3))
  assert [ask(app=app).status_code for _ in range(4)] == [200, 200, 200, 429]
  assert ask(app=app).headers["retry-after"] == "20"
  now[0] += 20
  assert [ask(app=app).status_code for _ in range(2)] == [200, 429]
  assert app._allowances.wait("10.0.0.2") == 0  # another client


def test_the_counts_of_clients_do_not_grow_without_end(monkeypatch):
  monkeypatch.setattr(guard, "_MOST_CLIENTS", 5)
  allowances = guard._Allowances(3)
  for client in range(50):
    allowances.wait(str(client))
  assert len(allowances._filled) == 5


def test_web_sockets_are_refused():
  sent = []

  async def send(message):
    sent.append(message)

  anyio.run(guarded(APP, LOCAL), {"type": "websocket"}, None, send)
  assert sent == [{"type": "websocket.close", "code": 1008}]


def test_the_guard_has_the_check_of_the_address():
  with pytest.raises(InputError):
    guard.check_binding("0.0.0.0", None)
