"""Measures a server under load, against the engine that it is made of.

First many clients ask for some time. Each answer is compared with what an engine of the same sizes draws in this
process, which knows no server. Then server and engine answer the same requests in turn, a batch each, so that a machine
with other work slows both down alike.
"""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.assembly.model import open_policy
from posttrain_jax.performance.serving_client import LoadAnswer
from posttrain_jax.performance.serving_load import ask_all, load_requests
from posttrain_jax.serving.completion import CompletionRequest
from posttrain_jax.serving.running_request import sampling_of
from posttrain_jax.serving.serving_engine import EngineSizes, serving_engine
from posttrain_jax.types import FinishReason, Prompt

_MOST_PER_SECOND = 1000  # requests that are made; a faster server ends the first part before its time


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServingWork:
  """Describes what is measured.

  Attributes:
    model: PATH_OR_NAME.
    clients: that wait for an answer at the same time.
    seconds: of the first part.
    rounds: batches that server and engine answer in turn; 0 for none.
    batch: requests of each.
    slots: of the engine.
    steps_per_dispatch: of the engine.
    max_prompt_length: of the engine, and limit on the requests.
    max_new_tokens: of the engine, and limit on the requests.
    mean_length: mean number of tokens of prompts, and of answers that do not end before.
    seed: of the requests.
  """

  model: str
  clients: int
  seconds: float
  rounds: int
  batch: int
  slots: int
  steps_per_dispatch: int
  max_prompt_length: int
  max_new_tokens: int
  mean_length: int
  seed: int


def measure_serving(work: ServingWork) -> dict[str, Any]:
  """Measures it.

  Returns:
    Answers and tokens of the first part, how many answers are wrong, percentiles of times in seconds, tokens a second.
    The tokens a second of the server as a share of the engine's, the median of the rounds; the same of the seconds of
    CPU that the engine and the server's processes took.

  Raises:
    InputError: if there is no such model.
    RuntimeError: if a request gets no answer, or the server does not end well.
  """
  own = _OwnEngine(work)
  server, address = _started(work)
  try:
    many = _requests(work, own, count=work.clients + int(work.seconds * _MOST_PER_SECOND), first=0)
    answers, elapsed = ask_all(address, many, work.clients, seconds=work.seconds)
    rounds = [_round(work, own, server.pid, address, number) for number in range(work.rounds)]
    wrong = sum(each["wrong"] for each in rounds) + _wrong(own.answers(many[: len(answers)], work.clients), answers)
  finally:
    server.send_signal(signal.SIGTERM)
    code = server.wait(60)
  if code:
    raise RuntimeError(f"the server ended with {code}")
  tokens = sum(answer.tokens for answer in answers.values())
  found = {
    "answers": len(answers) + work.rounds * work.batch,
    "wrong_answers": wrong,
    "answers_under_load": len(answers),
    "seconds": round(elapsed, 1),
    "tokens": tokens,
    "tokens_per_second": round(tokens / elapsed, 1),
    "answer_seconds": percentiles([answer.seconds for answer in answers.values()]),
    "first_token_seconds": percentiles([answer.first_token for answer in answers.values()]),
    "per_token_seconds": percentiles([answer.per_token for answer in answers.values()]),
    "load": round(os.getloadavg()[0], 1),
  }
  if rounds:
    for name in ("throughput_ratio", "cpu_ratio"):
      found[name] = round(float(np.median([each[name] for each in rounds])), 3)
      found[f"{name}s"] = [round(each[name], 3) for each in rounds]
  return found


def percentiles(values: Sequence[float | None]) -> dict[str, float]:
  """Returns the median, the 90th and the 99th percentile of those that are not None."""
  known = [value for value in values if value is not None]
  return {f"p{at}": round(float(np.percentile(known, at)), 4) for at in (50, 90, 99)} if known else {}


def _requests(work: ServingWork, own: "_OwnEngine", *, count: int, first: int) -> list[CompletionRequest]:
  return load_requests(
    count,
    vocab_size=own.vocab_size,
    longest=work.max_prompt_length,
    mean_length=work.mean_length,
    cap=work.max_new_tokens,
    seed=work.seed,
    first=first,
  )


def _round(work: ServingWork, own: "_OwnEngine", server: int, address: str, number: int) -> dict[str, float]:
  """Lets server and engine answer a batch, the one first that was second before."""
  requests = _requests(work, own, count=work.batch, first=(number + 1) * 1_000_000)
  times: dict[str, tuple[float, float]] = {}
  for name in ("server", "engine") if number % 2 else ("engine", "server"):
    if name == "server":
      cpu = _cpu_seconds(server)
      answers, elapsed = ask_all(address, requests, work.clients)
      times[name] = elapsed, _cpu_seconds(server) - cpu
    else:
      start, cpu = time.perf_counter(), time.process_time()
      expected = own.answers(requests, work.clients)
      times[name] = time.perf_counter() - start, time.process_time() - cpu
  seconds, cpu = (engine / served for engine, served in zip(times["engine"], times["server"]))
  return {"throughput_ratio": seconds, "cpu_ratio": cpu, "wrong": _wrong(expected, answers)}


def _wrong(expected: Mapping[int, tuple[str, int, str]], answers: Mapping[int, LoadAnswer]) -> int:
  """Counts answers that are missing, more than asked for, or not those of the engine."""
  found = {seed: (answer.text, answer.tokens, answer.finish_reason) for seed, answer in answers.items()}
  return sum(found.get(seed) != expected.get(seed) for seed in {*found, *expected})


def _started(work: ServingWork) -> tuple[subprocess.Popen, str]:
  """Starts a server and waits until it is ready; returns its process and address."""
  many = 10**9
  flags = {
    "model": f"measured={work.model}",
    "port": 0,
    "slots": work.slots,
    "queue": work.clients,
    "steps_per_dispatch": work.steps_per_dispatch,
    "max_prompt_length": work.max_prompt_length,
    "max_new_tokens": work.max_new_tokens,
    "requests_per_minute": many,
    "requests_per_client": work.clients,
  }
  command = [sys.executable, "-m", "experiments.serve", *(f"--{name}={value}" for name, value in flags.items())]
  server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  line = server.stdout.readline()
  if not line:
    raise RuntimeError(f"{' '.join(command)} ended with {server.wait()}")
  return server, line.split()[-1]


def _cpu_seconds(process: int) -> float:
  """Returns the seconds of CPU that a process and its own processes have taken."""
  ticks = 0
  for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
      fields = path.read_text().rsplit(")", 1)[1].split()
    except OSError:  # it has ended
      continue
    if process in (int(path.parent.name), int(fields[1])):
      ticks += int(fields[11]) + int(fields[12])
  return ticks / os.sysconf("SC_CLK_TCK")


class _OwnEngine:
  """Answers requests in this process, as many at a time as there are clients."""

  def __init__(self, work: ServingWork):
    policy = open_policy(work.model)
    self.vocab_size, self._tokenizer, self._cap = policy.tokenizer.vocab_size, policy.tokenizer, work.max_new_tokens
    sizes = EngineSizes(
      slots=work.slots,
      max_prompt_length=work.max_prompt_length,
      max_new_tokens=work.max_new_tokens,
      queue=work.clients,
      steps_per_dispatch=work.steps_per_dispatch,
    )
    self._engine = serving_engine(policy, sizes)
    self.answers(_requests(work, self, count=2, first=2 * 10**9), 2)  # compiles

  def answers(self, requests: Sequence[CompletionRequest], clients: int) -> dict[int, tuple[str, int, str]]:
    """Returns text, number of tokens and finish reason of each request, by seed."""
    waiting, found, under_way = iter(requests), {}, 0
    while True:
      while under_way < clients and (request := next(waiting, None)) is not None:
        self._engine.submit(Prompt(request.seed, request.prompt, {}), 1, sampling_of(request, self._cap))
        under_way += 1
      if not under_way:
        return found
      for group in self._engine.step():
        under_way -= 1
        (answer,) = group.answers
        ended = answer.finish_reason == FinishReason.EOS
        text = answer_text(self._tokenizer, answer.tokens, ended=ended)
        found[group.prompt.index] = text, len(answer.tokens), "stop" if ended else "length"
