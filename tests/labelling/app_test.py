"""Tests the requests of the page, with those that a hostile page or rater would send."""

import json
import types

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("markdown_it", reason="needs pip install 'posttrain_jax[label]'")

import anyio
import httpx

from posttrain_jax.labelling.app import make_app
from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.keys import RaterKeys
from posttrain_jax.labelling.page import page
from posttrain_jax.labelling.session import Session
from posttrain_jax.labelling.study import EVENTS
from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.serving import guard
from tests.labelling.small_studies import make_study, prefer


@pytest.fixture
def study(tmp_path):
  return make_study(tmp_path, raters=("ann", "bob"), overlap=2, instructions="Be *fair*.", most_characters=50)


@pytest.fixture
def client(study):
  """Returns what sends requests, as "ann" unless told otherwise."""
  with EventLog(study.path / EVENTS) as log:
    yield Client(study, log)


class Client:
  """Sends requests to the application of a study."""

  def __init__(self, study, log, token=None):
    self.study, self.session = study, Session(study, log)
    self.keys = RaterKeys(study.settings.raters, token)
    self._app = make_app(study, self.session, self.keys, host="127.0.0.1", port=8030)

  def __call__(self, method, path, body=None, *, headers=(), content=None):
    sent = {"X-Rater": "ann"} | ({"Content-Type": "application/json"} if method == "POST" else {}) | dict(headers)
    sent = {name: value for name, value in sent.items() if value is not None}

    async def send():
      transport = httpx.ASGITransport(self._app)
      async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8030") as client:
        text = json.dumps(body) if content is None and body is not None else content
        return await client.request(method, path, content=text, headers=sent)

    return anyio.run(send)

  def events(self):
    return [json.loads(line) for line in (self.study.path / EVENTS).read_text().splitlines()]


def label_of(view, event="event-0001"):
  return {"event": event, "item": view["item"], "label": prefer(view, "good")}


def test_a_rater_works_through_the_api(client):
  about = client("GET", "/api/study").json()
  assert about == {
    **{"kind": "pairs", "ties": True, "edits": True, "most_characters": 50},
    **{"key_needed": False, "raters": ["ann", "bob"]},
  }
  first = client("GET", "/api/next").json()
  assert first["rater"] == "ann" and first["instructions"] == "<p>Be <em>fair</em>.</p>\n"
  second = client("POST", "/api/label", label_of(first)).json()
  assert second["done"] == 1 and second["item"] != first["item"]
  back = client("POST", "/api/undo", {"event": "event-0002", "item": second["last"]}).json()
  assert back["item"] == first["item"] and back["before"] == prefer(first, "good")
  assert [event["type"] for event in client.events()] == ["label", "undo"]


def test_the_page_has_its_policy_and_the_guards_headers(client):
  found = client("GET", "/")
  assert found.status_code == 200 and (found.text, found.headers["content-security-policy"]) == page()
  assert found.headers["x-content-type-options"] == "nosniff" and found.headers["x-frame-options"] == "DENY"
  assert found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", [None, "", "eve", "ann, bob", "Ann"])
def test_a_rater_who_is_not_on_the_list_is_refused(client, name):
  for method, path in (("GET", "/api/next"), ("POST", "/api/label"), ("POST", "/api/undo")):
    found = client(method, path, {}, headers={"X-Rater": name})
    assert found.status_code == 401 and "ann" not in found.text


def test_a_key_is_needed_where_there_is_a_token_and_names_are_not_told(study):
  with EventLog(study.path / EVENTS) as log:
    client = Client(study, log, token="a-secret-of-the-study")
    about = client("GET", "/api/study").json()
    assert about["key_needed"] and about["raters"] == []
    assert client("GET", "/api/next").status_code == 401  # a name is not enough
    assert client("GET", "/").status_code == 200
    shown = {"Authorization": f"Bearer {client.keys.key('bob')}"}
    assert client("GET", "/api/next", headers=shown).json()["rater"] == "bob"  # whatever X-Rater says


def test_no_answer_shows_what_another_rater_said(client):
  view = client("GET", "/api/next", headers={"X-Rater": "bob"}).json()
  label = {"event": "event-bobs", "item": view["item"], "label": prefer(view, "good", "significantly", "a secret edit")}
  assert client("POST", "/api/label", label, headers={"X-Rater": "bob"}).status_code == 200
  texts = [client("GET", path).text for path in ("/", "/api/study", "/api/next")]
  texts.append(client("POST", "/api/undo", {"event": "event-anns", "item": view["item"]}).text)
  assert not [text for text in texts if "secret edit" in text or '"done":1' in text]
  for path in ("/events.jsonl", "/api/votes", "/../events.jsonl", "/study.json", "/export/votes.jsonl"):
    assert client("GET", path).status_code == 404


@pytest.mark.parametrize(
  "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example:8030"}]
)
def test_a_foreign_page_cannot_write(client, headers):
  view = client("GET", "/api/next").json()
  assert client("POST", "/api/label", label_of(view), headers=headers).status_code == 403
  assert client("POST", "/api/undo", {"event": "event-0001", "item": "x"}, headers=headers).status_code == 403
  assert client.events() == []


def test_a_form_of_a_foreign_page_cannot_write_either(client):
  view = client("GET", "/api/next").json()
  for kind in ("text/plain", "application/x-www-form-urlencoded", None):
    assert client("POST", "/api/label", label_of(view), headers={"Content-Type": kind}).status_code == 415
  assert client.events() == []


@pytest.mark.parametrize(
  ("content", "status"),
  [
    ("{", 422),
    ("[]", 422),
    ("{}", 422),
    ("[" * 5000, 422),
    (b"\xff", 422),
    (json.dumps({"event": "event-0001", "item": "x", "label": {}, "rater": "bob"}), 422),
    (json.dumps({"event": "event-0001", "item": "x", "label": {}}), 409),
    (json.dumps({"event": "x", "item": "x", "label": {}}), 422),
    (json.dumps({"event": "event-0001", "item": {"$ne": 1}, "label": {}}), 409),
    ("x" * 20_000, 413),
  ],
)
def test_malformed_bodies_have_their_status(client, content, status):
  found = client("POST", "/api/label", content=content)
  assert found.status_code == status and found.json()["error"]["message"]
  assert client.events() == []


def test_a_text_may_be_as_long_as_told(client):
  view = client("GET", "/api/next").json()
  long = {"event": "event-0001", "item": view["item"], "label": prefer(view, "good", edited="é" * 51)}
  found = client("POST", "/api/label", long)
  assert found.status_code == 422 and "51 characters, expected at most 50" in found.json()["error"]["message"]
  long["label"]["edited"] = "😀" * 50
  assert client("POST", "/api/label", long).status_code == 200


def test_a_disk_that_is_full_is_told_and_nothing_is_lost(client, monkeypatch):
  view = client("GET", "/api/next").json()

  def fail(event):
    raise DiskFailure("/secret/path: no space left")

  monkeypatch.setattr(client.session._log, "append", fail)
  found = client("POST", "/api/label", label_of(view))
  assert found.status_code == 503 and found.headers["retry-after"] == "5" and "secret" not in found.text
  monkeypatch.undo()
  assert client("POST", "/api/label", label_of(view)).json()["done"] == 1


def test_a_name_of_an_event_used_again_is_a_conflict(client):
  view = client("GET", "/api/next").json()
  assert client("POST", "/api/label", label_of(view)).status_code == 200
  assert client("POST", "/api/label", label_of(view)).status_code == 200  # the same form again
  other = label_of(view) | {"label": {"skipped": True}}
  assert client("POST", "/api/label", other).status_code == 409
  assert client("POST", "/api/label", label_of(view, "event-0002")).status_code == 409
  assert len(client.events()) == 1


def test_too_many_requests_are_refused(client, monkeypatch):
  monkeypatch.setattr(guard, "time", types.SimpleNamespace(monotonic=lambda: 0.0))  # all within one moment
  codes = [client("GET", "/api/study").status_code for _ in range(610)]
  assert codes == [200] * 600 + [429] * 10


def test_hostile_texts_pass_as_texts(tmp_path):
  texts = ["<script>alert(1)</script>", "[x](javascript:alert(1))", "a\u202eb", "a\0b", "x" * 1_000_000]
  (tmp_path / "hostile").mkdir()
  study = make_study(tmp_path / "hostile", RatingKind.RANKING, rows=[{"prompt": "</script>", "answers": texts}])
  with EventLog(study.path / EVENTS) as log:
    found = Client(study, log)("GET", "/api/next")
  assert found.headers["content-type"] == "application/json" and found.headers["x-content-type-options"] == "nosniff"
  assert sorted(found.json()["answers"]) == sorted(texts)
