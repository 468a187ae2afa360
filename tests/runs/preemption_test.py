import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from posttrain_jax.runs.preemption import Preemption

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOTH = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("signum", BOTH)
def test_a_signal_is_a_request(signum, capfd):
  before = {each: signal.getsignal(each) for each in BOTH}
  with Preemption() as preemption:
    assert not preemption.requested
    os.kill(os.getpid(), signum)
    assert preemption.requested
    said, limit = "", time.monotonic() + 10
    while not said and time.monotonic() < limit:
      said = capfd.readouterr().err
  name = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
  assert said == f"{name}: stopping after this step with a checkpoint; a second {name} ends the run at once\n"
  assert {each: signal.getsignal(each) for each in BOTH} == before


def test_one_listener_after_another():
  before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts without it
  for _ in range(2):
    with Preemption() as preemption:
      os.kill(os.getpid(), signal.SIGINT)
      assert preemption.requested
  with pytest.raises(KeyboardInterrupt):
    os.kill(os.getpid(), signal.SIGINT)
  signal.signal(signal.SIGINT, before)


def test_a_listener_within_another_passes_the_request_on():
  before = {each: signal.getsignal(each) for each in BOTH}
  with Preemption() as outer:
    with Preemption() as inner:
      os.kill(os.getpid(), signal.SIGTERM)
      assert inner.requested and not outer.requested
    assert outer.requested
  with Preemption() as outer, Preemption():
    pass
  assert not outer.requested
  assert {each: signal.getsignal(each) for each in BOTH} == before


def run(program, **options):
  return subprocess.Popen(
    [sys.executable, "-c", "import os, signal\nfrom posttrain_jax.runs.preemption import Preemption\n" + program],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def test_a_second_signal_ends_the_process_and_another_kind_is_no_second():
  child = run("""
with Preemption():
  os.kill(os.getpid(), signal.SIGINT)
  os.kill(os.getpid(), signal.SIGTERM)
  print("alive", flush=True)
  os.kill(os.getpid(), signal.SIGINT)
  print("still alive", flush=True)
""")
  out, error = child.communicate()
  assert (child.returncode, out) == (-signal.SIGINT, "alive\n") and "Traceback" not in error


def test_a_second_signal_ends_a_process_that_runs_no_python():
  """As in a compilation: a handler of Python's would wait for its end."""
  child = run("""
import hashlib
with Preemption():
  print("ready", flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
""")
  assert child.stdout.readline() == "ready\n"
  time.sleep(0.2)
  child.send_signal(signal.SIGINT)
  assert child.stderr.readline().startswith("Ctrl-C: stopping after this step")
  time.sleep(0.1)
  child.send_signal(signal.SIGINT)
  assert child.wait(20) == -signal.SIGINT
