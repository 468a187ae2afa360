import json

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")

import anyio
import httpx
from starlette.applications import Starlette

from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.serving.chat_routes import PAGE, ChatModel, chat_routes
from posttrain_jax.serving.feedback_store import FeedbackStore
from posttrain_jax.serving.guard import GuardSettings, guarded
from tests.serving.feedback_request_test import MODELS, THUMB

SERVED = {name: ChatModel(reads, 64) for name, reads in MODELS.items()}
TOKEN = "0123456789abcdef"


def ask(store, method, path, *, token=None, **options):
  limits = GuardSettings("127.0.0.1", 8000, token, 2000, 1000)
  app = guarded(Starlette(routes=chat_routes(SERVED, store)), limits, without_token={PAGE})

  async def send():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
      return await client.request(method, path, **options)

  return anyio.run(send)


@pytest.fixture
def store(tmp_path):
  with FeedbackStore(tmp_path) as opened:
    yield opened


def test_the_page_has_its_own_policy(store):
  found = ask(store, "GET", "/")
  assert found.status_code == 200 and found.headers["content-type"] == "text/html; charset=utf-8"
  assert "sha256-" in found.headers["content-security-policy"]
  assert found.headers["x-frame-options"] == "DENY"


def test_the_models_are_told(store):
  models = [
    {"name": "chat", "reads_messages": True, "max_tokens": 64},
    {"name": "plain", "reads_messages": False, "max_tokens": 64},
  ]
  assert ask(store, "GET", "/chat/about").json() == {"models": models, "feedback": True}
  assert ask(None, "GET", "/chat/about").json() == {"models": models, "feedback": False}


def test_feedback_is_stored_once(store, tmp_path):
  for new in (True, False):
    found = ask(store, "POST", "/feedback", json=THUMB)
    assert (found.status_code, found.json()) == (200, {"stored": new})
  (line,) = (tmp_path / "liked.jsonl").read_text().splitlines()
  assert json.loads(line)["model"] == "chat"


def test_wrong_feedback_is_refused_with_one_line(store):
  found = ask(store, "POST", "/feedback", content=b"{")
  assert found.status_code == 422 and found.json()["error"]["message"].startswith("body: malformed JSON")
  assert ask(store, "POST", "/feedback", content=b" " * 2001).status_code == 413
  assert ask(None, "POST", "/feedback", json=THUMB).status_code == 404
  assert ask(store, "GET", "/feedback").status_code == 405


def test_pages_of_other_origins_store_nothing(store, tmp_path):
  for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
    assert ask(store, "POST", "/feedback", json=THUMB, headers=headers).status_code == 403
  assert (tmp_path / "liked.jsonl").read_text() == ""


def test_the_page_may_be_read_without_the_token_and_nothing_else(store):
  assert ask(store, "GET", "/", token=TOKEN).status_code == 200
  assert ask(store, "GET", "/chat/about", token=TOKEN).status_code == 401
  assert ask(store, "POST", "/feedback", token=TOKEN, json=THUMB).status_code == 401
  shown = {"Authorization": f"Bearer {TOKEN}"}
  assert ask(store, "POST", "/feedback", token=TOKEN, json=THUMB, headers=shown).status_code == 200


def test_a_full_disk_is_told(store, monkeypatch):
  def full(*_):
    raise DiskFailure("liked.jsonl: No space left on device")

  monkeypatch.setattr(store, "add_thumb", full)
  found = ask(store, "POST", "/feedback", json=THUMB)
  assert found.status_code == 507 and "No space left" in found.json()["error"]["message"]
