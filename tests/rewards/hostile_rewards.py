"""Defines reward functions that misbehave if an answer tells them to.

For all other answers the reward is the answer's length.
"""

import os
import signal
import stat
import subprocess
import sys
import threading
import time

WRITES = {
  "write a reply": b'{"rewards": [99]}\n',
  "write the first reply": b'1 {"rewards": [99]}\n',
  "write part of a line": b'1 {"rew',
  "write rubbish": b"\xff\x00 rubbish\n",
  "write a blank line": b"\n",
}


def channels():
  """Lists the sockets of this process: how a function would find the worker's connection."""
  found = []
  for name in os.listdir("/dev/fd"):
    try:
      if int(name) > 2 and stat.S_ISSOCK(os.fstat(int(name)).st_mode):
        found.append(int(name))
    except OSError:
      pass
  return found


def by_command(texts, rows, *, log=""):
  del rows
  rewards = []
  for text in texts:
    if text == "sleep":
      time.sleep(3600)
    elif text == "hold the lock":
      import re

      re.match("(a+)+$", "a" * 60 + "b")  # exponential, and never lets another thread run
    elif text == "exit":
      os._exit(3)
    elif text == "sys.exit":
      sys.exit(3)
    elif text == "kill":
      os.kill(os.getpid(), signal.SIGKILL)
    elif text == "raise":
      raise KeyError("nothing\nhere")
    elif text == "short":
      return rewards
    elif text == "interrupt":
      raise KeyboardInterrupt
    elif text.startswith("fork"):
      child = os.fork()
      if child == 0 and text == "fork raises":
        raise KeyError("in the child")
      if child == 0 and text == "fork exits":
        sys.exit(5)
      if child == 0:  # goes on as its parent does, which is the accident
        return [99.0] * len(texts)
      if text == "fork and forget":
        time.sleep(0.2)  # the child is first
      rewards.append(float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    elif text in WRITES:
      for channel in channels():
        os.write(channel, WRITES[text])
      rewards.append(5.0)
    elif text == "child writes":
      program = "import os, sys, time; time.sleep(.1); os.write(int(sys.argv[1]), b'1 {}')"
      for channel in channels():
        os.set_inheritable(channel, True)
        subprocess.run([sys.executable, "-c", program, str(channel)], close_fds=False)
      rewards.append(5.0)
    elif text == "later":
      threading.Timer(0.1, lambda: [os.write(channel, b'1 {"rewards": [99]}\n') for channel in channels()]).start()
      rewards.append(5.0)
    elif text == "close":
      os.closerange(3, 1000)
      rewards.append(5.0)
    elif text == "reuse":
      os.closerange(3, 1000)
      files = [os.open(os.devnull, os.O_RDWR) for _ in range(20)]
      rewards.append(float(len(files)))
    elif text == "shut and wait":
      os.closerange(3, 1000)
      time.sleep(3600)
    elif text == "flood":
      print("x" * 1000, flush=True)
      for channel in channels():
        os.set_blocking(channel, True)
        while True:
          os.write(channel, b"x" * 65536)
    elif text == "print":
      print('{"rewards": [99]}', flush=True)
      sys.stdin.read()
      rewards.append(5.0)
    else:
      special = {"nan": float("nan"), "inf": float("inf"), "none": None, "true": True, "text": "1", "huge": 10**400}
      rewards.append(special.get(text, float(len(text))))
  if log:
    with open(log, "a") as file:
      file.write(f"{len(texts)}\n")
  return rewards


def pid(texts, rows):
  del rows
  return [os.getpid() for _ in texts]


def is_open(texts, rows):
  """Returns 1 if a forked process has a socket."""
  del rows
  rewards = []
  for _ in texts:
    child = os.fork()
    if child == 0:
      os._exit(bool(channels()))
    rewards.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
  return rewards


def starts_daemon(texts, rows):
  """Leaves a process running in a session of its own, whose parent has ended; its reward is the process id."""
  del rows
  rewards = []
  for _ in texts:
    reading, writing = os.pipe()
    if os.fork() == 0:
      os.setsid()
      if os.fork() == 0:
        os.write(writing, str(os.getpid()).encode())
        time.sleep(600)
      os._exit(0)
    rewards.append(int(os.read(reading, 100)))
  return rewards


def takes_10_ms(texts, rows):
  del rows
  time.sleep(0.01 * len(texts))
  return [1.0 for _ in texts]


def starts_program(texts, rows):
  """Leaves a program running; its reward is the program's process id."""
  del rows
  return [subprocess.Popen(["sleep", "600"]).pid for _ in texts]


def imported_jax(texts, rows):
  """Returns 1 if jax was imported into this process."""
  del rows
  return ["jax" in sys.modules for _ in texts]


def out_of_memory_score(texts, rows):
  del rows
  with open("/proc/self/oom_score_adj") as file:
    return [float(file.read())] * len(texts)


def from_column(texts, rows):
  del texts
  return [row["value"] for row in rows]


def needs_an_answer(texts, rows):
  del rows
  return [max(texts) for _ in texts] if texts else [max(texts)]
