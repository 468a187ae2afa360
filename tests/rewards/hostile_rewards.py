"""Defines reward functions that misbehave if an answer tells them to.

For all other answers the reward is the answer's length.
"""

import os
import signal
import subprocess
import sys
import time


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
