"""Tests engines in another process: the same answers, and nobody waits when it ends."""

import os
import queue
import signal
import subprocess
import sys
import time

import pytest

from posttrain_jax.serving.completion import Refused
from posttrain_jax.serving.engine_process import EngineProcess
from posttrain_jax.serving.running_model import RunningModel
from posttrain_jax.types import InputError
from tests.serving.served import SIZES, AloneEngine, asked, collected


def nothing():
  pass


@pytest.fixture(scope="module")
def engines():
  with EngineProcess(nothing) as process:
    yield process


@pytest.fixture(scope="module")
def remote(folder, engines):
  return RunningModel(str(folder), SIZES, start=engines.start)


def test_answers_are_those_of_an_engine_here(remote, folder):
  """Bits of logprobs, too, and alternatives."""
  alone = AloneEngine(folder)
  requests = [asked(seed=seed, n=1 + seed % 2, temperature=seed / 4, stop=("e",)) for seed in range(6)]
  pieces = [queue.SimpleQueue() for _ in requests]
  for request, come in zip(requests, pieces):
    remote.submit(request, come.put)
  for request, come in zip(requests, pieces):
    got = []
    while sum(piece.finish_reason is not None for piece in got) < request.n:
      got.append(come.get(timeout=60))
    assert collected(got, request.n) == alone.answers(remote.tokenizer.encode("ab"), request)
  assert remote.choices == (0, 0) and {piece.version for piece in got} == {remote.version}
  tops = [top for piece in remote.pieces(asked(top_logprobs=3)) for top in piece.top_logprobs]
  assert {len(top) for top in tops} == {3}


def test_a_request_may_be_cancelled(remote):
  iterator = remote.pieces(asked(n=4))
  next(iterator)
  iterator.close()
  assert remote.choices == (0, 0)
  assert collected(remote.pieces(asked()))[0][3] in ("stop", "length")


def test_what_cannot_be_loaded_is_said_here(engines, remote, tmp_path):
  with pytest.raises(InputError, match="does not exist"):
    engines.start(str(tmp_path / "none"), SIZES, None, print)
  assert collected(remote.pieces(asked()))[0][3]  # the others go on


def test_one_model_may_be_closed(engines, folder):
  model, pieces = RunningModel(str(folder), SIZES, start=engines.start), queue.SimpleQueue()
  model.submit(asked(n=8), pieces.put)
  model.close()
  last = None
  while not pieces.empty():
    last = pieces.get()
  assert isinstance(last, Refused)
  with pytest.raises(Refused, match="shutting down"):
    model.submit(asked(), print)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_to_both_processes_end_none_of_its_answers(engines, remote, name):
  os.kill(engines._process.pid, getattr(signal, name))
  assert collected(remote.pieces(asked()))[0][3] in ("stop", "length")


def test_the_end_of_the_process_leaves_nobody_waiting(engines, remote):
  """The last test of this process."""
  pieces = queue.SimpleQueue()
  remote.submit(asked(n=16), pieces.put)
  os.kill(engines._process.pid, signal.SIGKILL)
  last = pieces.get(timeout=30)
  while not isinstance(last, Exception):
    last = pieces.get(timeout=30)
  assert str(last) == remote.failure == "the engines' process has ended with exit code -9"
  with pytest.raises(Refused, match="the model has failed: the engines' process has ended"):
    remote.submit(asked(), print)
  with pytest.raises(RuntimeError, match="has ended with exit code -9"):
    engines.start("any", SIZES, None, print)


PROGRAM = """
import sys
from jax._src import xla_bridge
from posttrain_jax.serving.engine_process import EngineProcess
from posttrain_jax.serving.running_model import RunningModel
from tests.serving.served import SIZES, asked

if __name__ == "__main__":
  engines = EngineProcess(print)
  model = RunningModel(sys.argv[1], SIZES, start=engines.start)
  assert list(model.pieces(asked()))
  print(engines._process.pid, xla_bridge.backends_are_initialized(), flush=True)
  sys.stdin.read()
"""


def test_the_process_that_serves_leaves_the_device_alone_and_takes_the_engines_with_it(folder, tmp_path):
  program = tmp_path / "program.py"
  program.write_text(PROGRAM)
  command = [sys.executable, str(program), str(folder)]
  environment = os.environ | {"PYTHONPATH": os.getcwd()}
  pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
  with subprocess.Popen(command, **pipes) as process:
    process.stdout.readline()  # what the engines' process printed first
    number, initialized = process.stdout.readline().split()
    assert initialized == "False"
    process.kill()
  until = time.monotonic() + 30
  while os.path.exists(f"/proc/{number}/exe") and time.monotonic() < until:
    time.sleep(0.05)
  assert not os.path.exists(f"/proc/{number}/exe")
