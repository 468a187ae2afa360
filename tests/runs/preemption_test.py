import os
import pathlib
import signal
import subprocess
import sys

from posttrain_jax.runs.preemption import Preemption

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_sigterm_is_a_request():
  before = signal.getsignal(signal.SIGTERM)
  with Preemption() as preemption:
    assert not preemption.requested
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.requested
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_sigterm_ends_the_process():
  program = """
import os, signal
from posttrain_jax.runs.preemption import Preemption
with Preemption():
  os.kill(os.getpid(), signal.SIGTERM)
  print("alive", flush=True)
  os.kill(os.getpid(), signal.SIGTERM)
  print("still alive", flush=True)
"""
  child = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
  assert (child.returncode, child.stdout) == (-signal.SIGTERM, "alive\n")
