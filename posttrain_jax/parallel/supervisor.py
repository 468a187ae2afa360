"""Starts a program that ends with all its descendants.

They end when the program ends, and when the process ends that started it.

Between the two stands a supervisor: this file, run as a program that imports the standard library only. Linux hands it
every descendant whose own parent has ended (`PR_SET_CHILD_SUBREAPER`), so that daemons and programs in a session of
their own can be found. It ends them all, whichever comes first:

- the program ends;
- the process that started it calls `end`, ends, or is killed (SIGKILL included).

Elsewhere than on Linux it ends the program's process group only. A descendant that ends the supervisor itself takes the
program with it, but its other relatives stay. A cgroup would find these, too. It is not used, because a program may
make one only where a cgroup (version 2) was handed over to its user, which containers and batch systems rarely do.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NoReturn

_END_SECONDS = 10.0  # after so long a supervisor that does not end is killed
_POLL_SECONDS = (
  0.5  # a process that was forked from the parent may keep the lifeline open, so the parent is watched too
)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervised:
  """Holds a program that runs under a supervisor, in a session of its own.

  Attributes:
    process: the supervisor. It passes SIGTERM, SIGINT and SIGHUP on to the program, and ends as the program ended: with
      its exit code, or by its signal. CPU time is that of both.
  """

  def __init__(self, command: Sequence[str], *, pass_fds: Sequence[int] = (), **options: Any):
    """Starts the program.

    Args:
      command: the program and its arguments.
      pass_fds: descriptors that the program inherits.
      **options: as for `subprocess.Popen`.
    """
    self._lock = threading.Lock()
    supervisors_end, self._lifeline = os.pipe()
    arguments = [str(supervisors_end), str(os.getpid()), ",".join(map(str, pass_fds)), *command]
    try:
      # Without preexec_fn, Popen runs no Python between fork and exec, so the threads of this process are no danger.
      self.process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *arguments],
        pass_fds=[supervisors_end, *pass_fds],
        start_new_session=True,
        **options,
      )
    except BaseException:
      os.close(self._lifeline)
      raise
    finally:
      os.close(supervisors_end)

  def request_end(self) -> None:
    """Makes the supervisor kill the program and all its descendants; does not wait for it."""
    with self._lock:
      lifeline, self._lifeline = self._lifeline, None
    if lifeline is not None:
      os.close(lifeline)

  def end(self) -> int:
    """Kills the program and all its descendants, if they still run.

    Returns:
      the exit status as `subprocess.Popen.returncode` has it.
    """
    self.request_end()
    try:
      return self.process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
      self.process.kill()  # the program asked the kernel for a signal in this case
      return self.process.wait()


def _supervise(lifeline: int, parent: int, passed: Sequence[int], command: Sequence[str]) -> int:
  """Runs the program; returns its wait status when it and all its descendants have ended."""
  os.set_inheritable(lifeline, False)
  _prctl(_PR_SET_CHILD_SUBREAPER, 1)
  wake, woken = os.pipe()
  os.set_blocking(wake, False)
  os.set_blocking(woken, False)
  signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
  program = 0

  def forward(number: int, frame: Any) -> None:
    del frame
    if program and number != signal.SIGCHLD:
      with contextlib.suppress(ProcessLookupError):
        os.kill(program, number)

  for number in (*_FORWARDED, signal.SIGCHLD):  # not SIG_IGN, which the program would inherit
    signal.signal(number, forward)
  own = os.getpid()
  program = os.fork()
  if program == 0:
    _become(command, own)
  for descriptor in passed:
    os.close(descriptor)
  status, watched = None, select.poll()  # not select.select, which takes no descriptor above 1023
  watched.register(lifeline, select.POLLIN)
  watched.register(wake, select.POLLIN)
  while status is None and os.getppid() == parent:
    if any(descriptor == lifeline for descriptor, _ in watched.poll(_POLL_SECONDS * 1000)):
      break
    with contextlib.suppress(BlockingIOError):
      os.read(wake, 4096)
    status = _reap(program)
  leader, program = program, 0
  return _end_descendants(leader, status)


def _become(command: Sequence[str], supervisor: int) -> NoReturn:
  """Turns this process, a fork of the supervisor, into the program."""
  try:
    os.setsid()  # so that a program that signals its own process group does not reach the supervisor
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == supervisor:
      os.execvp(command[0], list(command))
  except OSError as error:
    os.write(2, f"{command[0]}: {error}\n".encode())
  finally:
    os._exit(127)


def _reap(leader: int) -> int | None:
  """Waits for what has ended; returns the leader's wait status if it was among them.

  Raises:
    ChildProcessError: if there is no child left and the leader was not among them.
  """
  status = None
  while True:
    try:
      pid, found = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
      if status is None:
        raise
      return status
    if pid == leader:
      status = found
    elif pid == 0:
      return status


def _end_descendants(leader: int, status: int | None) -> int:
  """Kills all descendants until there are none; returns the leader's wait status."""
  pause = 0.001
  while True:
    for pid in _descendants() if sys.platform == "linux" else [-leader] if status is None else []:
      with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    try:
      found = _reap(leader)
    except ChildProcessError:
      return status
    status = status if found is None else found
    time.sleep(pause)
    pause = min(2 * pause, 0.1)  # something that the kernel does not end now; wait for it without haste


def _descendants() -> list[int]:
  """Lists the processes below this one, from /proc."""
  children: dict[int, list[int]] = {}
  for name in os.listdir("/proc"):
    if name.isdigit():
      with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
        # "PID (NAME) STATE PARENT ...", where a name may hold anything
        children.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(int(name))
  found, level = [], [os.getpid()]
  while level:
    level = [child for pid in level for child in children.get(pid, [])]
    found += level
  return found


def _prctl(option: int, value: int) -> None:
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_like(status: int) -> NoReturn:
  """Ends this process as a process with this wait status ended."""
  code = os.waitstatus_to_exitcode(status)
  if code < 0:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program has written a core file if it was to
    with contextlib.suppress(OSError, ValueError):
      signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
  os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
  _lifeline, _parent, _passed, *_command = sys.argv[1:]
  _end_like(_supervise(int(_lifeline), int(_parent), [int(each) for each in _passed.split(",") if each], _command))
