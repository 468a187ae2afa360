"""Starts a job of two CPU processes on this machine, joined over a free port."""

import pathlib
import socket
import subprocess
import sys

from tests import compiler_flags

ROOT = pathlib.Path(__file__).resolve().parents[1]


def start(*command, devices):
  """Starts `python COMMAND --coordinator=... --processes=2 --process=0 and 1`, with so many virtual devices each."""
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    port = found.getsockname()[1]
  environment = compiler_flags.one_device()
  environment["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
  job = [f"--coordinator=127.0.0.1:{port}", "--processes=2"]
  return [
    subprocess.Popen(
      [sys.executable, *command, *job, f"--process={index}"],
      cwd=ROOT,
      env=environment,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in (0, 1)
  ]


def finish(processes, timeout=300):
  """Waits; returns exit codes, standard outputs and standard errors."""
  try:
    outputs = [process.communicate(timeout=timeout) for process in processes]
  finally:
    for process in processes:
      process.kill()
  return [process.returncode for process in processes], *zip(*outputs)
