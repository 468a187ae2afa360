"""Runs the command: it serves, is killed, goes on, and exports."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import uuid

import pytest

pytest.importorskip("httpx", reason="needs pip install 'posttrain_jax[test]'")
pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("krippendorff", reason="needs pip install 'posttrain_jax[label]'")

import httpx


def command(*arguments):
  return [sys.executable, "-m", "experiments.label", *map(str, arguments)]


def run(*arguments):
  return subprocess.run(command(*arguments), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


@contextlib.contextmanager
def serving(*arguments):
  """Starts a server; yields its process and the raters' links."""
  process = subprocess.Popen(command("--port=0", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  try:
    first = process.stdout.readline()
    assert first, process.stderr.read()
    yield process, first
  finally:
    process.kill()
    process.communicate(timeout=30)


def address(link):
  return re.search(r"http://127\.0\.0\.1:\d+/", link)[0]


@pytest.fixture
def rows(tmp_path):
  path = tmp_path / "rows.jsonl"
  pairs = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(120)]
  path.write_text("".join(json.dumps(row) + "\n" for row in pairs))
  return path


class Rater:
  """Rates through HTTP and sends an event again until it is answered, as the page does."""

  def __init__(self):
    self.acknowledged, self.waiting = [], None

  def rate(self, base, most=10**6):
    """Rates until the server is gone, or as many items as told, or all of them."""
    with (
      httpx.Client(base_url=base, headers={"X-Rater": "ann"}, timeout=30) as client,
      contextlib.suppress(httpx.TransportError),
    ):
      view = client.get("/api/next").json()
      while view["item"] is not None and len(self.acknowledged) < most:
        better = next(i for i, text in enumerate(view["answers"]) if text.startswith("good"))
        label = {"better": better, "strength": "better", "edited": None}
        if self.waiting is None or self.waiting["item"] != view["item"]:
          # The server says what comes next, so one that waits and is not asked for was stored.
          self.waiting = {"event": str(uuid.uuid4()), "item": view["item"], "label": label}
        answer = client.post("/api/label", json=self.waiting)
        assert answer.status_code == 200, answer.text
        self.acknowledged.append(self.waiting["event"])
        self.waiting, view = None, answer.json()


def stored(workdir):
  return [json.loads(line) for line in (workdir / "events.jsonl").read_text().splitlines()]


def test_a_server_that_is_killed_loses_and_doubles_nothing(rows, tmp_path):
  workdir, rater = tmp_path / "study", Rater()
  with serving(f"--input={rows}", "--kind=pairs", "--raters=ann", f"--workdir={workdir}") as (process, link):
    assert link.startswith("ann: http://127.0.0.1:") and link.endswith("/#rater=ann\n")
    thread = threading.Thread(target=rater.rate, args=(address(link),))
    thread.start()
    while len(rater.acknowledged) < 20:
      thread.join(0.005)
    process.send_signal(signal.SIGKILL)
    thread.join(30)
  before = list(rater.acknowledged)
  names = [event["event"] for event in stored(workdir)]
  assert 20 <= len(before) < 120 and names[: len(before)] == before and len(names) - len(before) in (0, 1)
  with open(workdir / "events.jsonl", "a") as log:
    log.write('{"event": "torn')  # as a kill within a write would leave it
  with serving(f"--workdir={workdir}") as (process, link):
    if rater.waiting is not None:  # sent and not answered: the page sends it again
      with httpx.Client(base_url=address(link), headers={"X-Rater": "ann"}) as client:
        assert client.post("/api/label", json=rater.waiting).status_code == 200
        rater.acknowledged.append(rater.waiting["event"])
        rater.waiting = None
    rater.rate(address(link))
    told = run(f"--workdir={workdir}", "--export")  # while the server runs
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
  events = stored(workdir)
  assert [event["event"] for event in events] == rater.acknowledged
  assert len({event["item"] for event in events}) == len(events) == 120
  assert {event["label"]["better"] for event in events} == {0}
  assert told.returncode == 0, told.stderr
  summary = json.loads(told.stdout.splitlines()[-1])
  assert (summary["rated"], summary["files"]["pairs.jsonl"], summary["no_majority"]) == (120, 120, 0)


def test_what_is_wrong_is_one_line_and_exit_code_2(rows, tmp_path):
  workdir = f"--workdir={tmp_path / 'study'}"
  for arguments, message in [
    ((f"--input={rows}",), "--kind: missing, expected what raters do with the rows of --input"),
    ((f"--input={rows}", "--kind=pairs", "--host=0.0.0.0"), "--host=0.0.0.0: other machines could connect"),
    (("--overlap=2",), "--overlap: given without --input, expected both to start a study, or neither to go on"),
  ]:
    done = run(workdir, *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
  assert not (tmp_path / "study").exists()
