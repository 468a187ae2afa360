"""Tests that a program's descendants end with it.

They do so if they are daemons, and however the end comes.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from posttrain_jax.parallel import supervisor
from posttrain_jax.parallel.supervisor import Supervised

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Starts processes in three ways that leave a process group, then prints their ids, then does what it is told.
PROGRAM = """
import os, signal, subprocess, sys, time
def sleeper():
  return subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL).pid
def daemon():
  reading, writing = os.pipe()
  if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
      os.write(writing, str(os.getpid()).encode())
      os.close(1)
      time.sleep(600)
    os._exit(0)
  return int(os.read(reading, 100))
def deaf():
  pid = os.fork()
  if pid == 0:
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
      signal.signal(number, signal.SIG_IGN)
    os.close(1)
    time.sleep(600)
  return pid
print(os.getpid(), sleeper(), daemon(), deaf(), flush=True)
exec(sys.argv[1])
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def start(then, **options):
  supervised = Supervised([sys.executable, "-c", PROGRAM, then], stdout=subprocess.PIPE, text=True, **options)
  return supervised, [int(word) for word in supervised.process.stdout.readline().split()]


def all_gone(pids, seconds=10.0):
  deadline = time.monotonic() + seconds
  while any(lives(pid) for pid in pids):
    if time.monotonic() > deadline:
      return False
    time.sleep(0.02)
  return True


def lives(pid):
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
  except (FileNotFoundError, ProcessLookupError):
    return False


@linux
@pytest.mark.parametrize(
  ("then", "code"),
  [("sys.exit(3)", 3), ("pass", 0), ("os.kill(os.getpid(), signal.SIGKILL)", -9), ("os.abort()", -signal.SIGABRT)],
)
def test_all_end_when_the_program_ends_and_its_status_is_kept(then, code):
  supervised, pids = start(then, stderr=subprocess.DEVNULL)
  with supervised.process.stdout:
    assert supervised.process.wait(20) == code
  assert len(pids) == 4 and not any(lives(pid) for pid in pids)  # at once: the supervisor goes last
  assert supervised.end() == code  # and once more is harmless


@linux
def test_all_end_on_request_even_what_ignores_signals():
  supervised, pids = start("time.sleep(600)")
  assert all(lives(pid) for pid in pids)
  with supervised.process.stdout:
    assert supervised.end() == -signal.SIGKILL
  assert not any(lives(pid) for pid in pids)


@linux
@pytest.mark.parametrize("forks", [False, True])
def test_all_end_when_the_process_that_started_them_is_killed(forks):
  program = f"""
import os, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from posttrain_jax.parallel.supervisor import Supervised
supervised = Supervised([sys.executable, "-c", {PROGRAM!r}, "time.sleep(600)"])
if {forks} and os.fork() == 0:  # keeps its copy of the lifeline
  os.close(1)
  time.sleep(5)
  os._exit(0)
time.sleep(600)
"""
  run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
  pids = [int(word) for word in run.stdout.readline().split()]
  assert len(pids) == 4 and all(lives(pid) for pid in pids)
  run.kill()
  with run.stdout:
    run.wait()
  assert all_gone(pids, 3)


@linux
def test_a_program_that_keeps_forking_is_ended():
  chain = "while True:\n  if os.fork():\n    os._exit(0)\n  os.setsid()\n  time.sleep(.002)"
  supervised, pids = start(f"if os.fork() == 0:\n  {chain.replace(chr(10), chr(10) + '  ')}\ntime.sleep(600)")
  with supervised.process.stdout as out:
    assert supervised.end() == -signal.SIGKILL
    assert out.read() == ""  # all ends of the pipe are closed
  assert not any(lives(pid) for pid in pids)


@linux
def test_a_supervisor_that_was_stopped_is_killed_with_the_program(monkeypatch):
  monkeypatch.setattr(supervisor, "_END_SECONDS", 0.3)
  supervised, pids = start("os.kill(os.getppid(), signal.SIGSTOP); time.sleep(600)")
  time.sleep(0.2)
  with supervised.process.stdout:
    assert supervised.end() == -signal.SIGKILL
  assert all_gone(pids[:1])
  for pid in pids[1:]:
    os.kill(pid, signal.SIGKILL)


def test_signals_reach_the_program_with_their_default_action():
  supervised = Supervised([sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"], stdout=-1)
  with supervised.process.stdout as out:
    out.readline()
    os.kill(supervised.process.pid, signal.SIGTERM)
    assert supervised.process.wait(20) == -signal.SIGTERM
  supervised.end()


def test_descriptors_arrive_and_no_others():
  reading, writing = os.pipe()
  program = "import os, sys; os.write(int(sys.argv[1]), ' '.join(os.listdir('/dev/fd')).encode())"
  supervised = Supervised([sys.executable, "-c", program, str(writing)], pass_fds=[writing])
  os.close(writing)
  with open(reading) as pipe:
    found = pipe.read()  # to the end: the supervisor keeps no copy
  assert supervised.process.wait(20) == 0
  supervised.end()
  # One more reads the directory; the lifeline and the supervisor's own pipe are not there.
  assert {"0", "1", "2", str(writing)} < set(found.split()) and len(found.split()) == 5


def test_a_program_that_is_not_there(capfd):
  supervised = Supervised(["/no/such/program"])
  assert supervised.process.wait(20) == 127
  supervised.end()
  assert "/no/such/program: " in capfd.readouterr().err


def test_cpu_time_is_that_of_the_program():
  supervised = Supervised([sys.executable, "-c", "import time\nwhile time.process_time() < .3: pass"])
  _, status, usage = os.wait4(supervised.process.pid, 0)
  supervised.process.returncode = os.waitstatus_to_exitcode(status)
  supervised.end()
  assert usage.ru_utime + usage.ru_stime >= 0.3
