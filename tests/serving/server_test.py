"""Tests how a server ends; `tests/experiments/serve_test.py` does it with signals and a model."""

import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("httpx", reason="needs pip install 'posttrain_jax[test]'")

import httpx

from posttrain_jax.serving.server import listen
from posttrain_jax.types import InputError

# Each request takes two seconds, or as long as its path says; serve() gives running ones the seconds of the first
# argument.
PROGRAM = """
import asyncio, sys
from posttrain_jax.serving.server import listen, serve

class Slow:
  closing, under_way = False, 0

  async def __call__(self, scope, receive, send):
    status = 503 if self.closing else 200
    if not self.closing:
      self.under_way += 1
      await asyncio.sleep(float(scope["path"][1:]))
      self.under_way -= 1
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})

app, bound = Slow(), listen("127.0.0.1", 0)
ready = lambda: print(bound.getsockname()[1], flush=True)
print("cut", serve(app, bound, app, ready=ready, seconds=float(sys.argv[1])), flush=True)
"""


@pytest.fixture
def start():
  started = []

  def run(seconds):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(seconds)], stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}"

  yield run
  for process in started:
    process.kill()
    process.wait()


def ask_in_background(url, seconds):
  """Sends a request without waiting for the answer."""
  host, port = url.removeprefix("http://").split(":")
  connection = socket.create_connection((host, int(port)), 30)
  connection.sendall(f"GET /{seconds} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
  time.sleep(0.3)
  return connection


def test_running_answers_finish_and_new_requests_get_503(start):
  process, url = start(30)
  connection = ask_in_background(url, 1.5)
  process.terminate()
  time.sleep(0.3)
  assert httpx.get(f"{url}/0").status_code == 503
  assert b"200" in connection.recv(1000)
  assert process.communicate(timeout=10)[0] == "cut 0\n" and process.returncode == 0


@pytest.mark.parametrize("second", [True, False])
def test_a_second_signal_or_the_end_of_the_time_cuts_answers_off(start, second):
  process, url = start(30 if second else 0.2)
  ask_in_background(url, 60)
  process.terminate()
  time.sleep(0.2)
  if second:
    process.terminate()
  assert process.communicate(timeout=10)[0] == "cut 1\n"


def test_an_idle_server_ends_at_once(start):
  process, url = start(30)
  assert httpx.get(f"{url}/0").status_code == 200
  process.terminate()
  assert process.communicate(timeout=10)[0] == "cut 0\n"


def test_an_address_that_cannot_be_had_is_named():
  with listen("127.0.0.1", 0) as taken:
    taken.listen()
    port = taken.getsockname()[1]
    message = f"--host=127.0.0.1 --port={port}: cannot listen there: Address already in use"
    with pytest.raises(InputError, match=message):
      listen("127.0.0.1", port)
  with pytest.raises(InputError, match=r"--host=no\.such\.host\.invalid --port=1: cannot listen there"):
    listen("no.such.host.invalid", 1)
