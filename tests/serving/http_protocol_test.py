"""Tests how bytes go out; `app_test.py` and `serve_test.py` have whole answers."""

import http.client
import urllib.parse

import pytest

pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")

from posttrain_jax.serving import http_protocol
from posttrain_jax.serving.background import in_background
from posttrain_jax.serving.server import listen


async def app(scope, receive, send):
  """Answers in as many parts as the path says."""
  await send({"type": "http.response.start", "status": 200, "headers": []})
  for number in range(int(scope["path"][1:])):
    await send({"type": "http.response.body", "body": f"{number};".encode(), "more_body": True})
  await send({"type": "http.response.body"})


@pytest.fixture
def written(monkeypatch):
  """Lists what is really written."""
  found = []
  send = http_protocol._JoinedTransport._send

  def noted(self):
    if self._parts:
      found.append(b"".join(self._parts))
    send(self)

  monkeypatch.setattr(http_protocol._JoinedTransport, "_send", noted)
  return found


def test_an_answer_is_written_at_once(written):
  with in_background(app, listen("127.0.0.1", 0)) as url:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)
    for parts in (3, 0, 100):
      connection.request("GET", f"/{parts}")
      assert connection.getresponse().read() == "".join(f"{number};" for number in range(parts)).encode()
    connection.request("GET", "/1", headers={"Connection": "close"})  # ends with all that was written
    assert connection.getresponse().read() == b"0;"
  assert len(written) == 4 and all(answer.startswith(b"HTTP/1.1 200") for answer in written)
