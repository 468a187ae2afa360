"""Makes requests to a server, and sends them from many clients at once.

Clients are threads with plain HTTP connections, so that they take little of the time that is measured.
"""

import dataclasses
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from posttrain_jax.serving.completion import CompletionRequest

# Temperature, top_p and top_k of requests, in turn.
_SAMPLINGS = ((1.0, 1.0, 0), (0.7, 0.9, 0), (0.0, 1.0, 0), (0.8, 1.0, 50))


@dataclasses.dataclass(frozen=True)
class LoadAnswer:
  """Holds what a client got.

  Attributes:
    text: of the choice.
    tokens: how many the server counted.
    finish_reason: "stop" or "length".
    seconds: from the request to the last byte.
    first_token: seconds to the first text of a stream; None without a stream.
    per_token: seconds for each further token of a stream, on average; None without a stream or with one token.
  """

  text: str
  tokens: int
  finish_reason: str
  seconds: float
  first_token: float | None
  per_token: float | None


def load_requests(
  count: int, *, vocab_size: int, longest: int, mean_length: int, cap: int, seed: int, first: int = 0
) -> list[CompletionRequest]:
  """Makes requests that all differ: lengths of prompts and of answers are geometric, samplings take turns.

  Args:
    count: how many.
    vocab_size: ids of prompts are drawn from it evenly.
    longest: limit on a prompt in tokens.
    mean_length: mean number of tokens of prompts, and of answers that do not end before.
    cap: limit on an answer in tokens.
    seed: of the requests.
    first: number of the first one.
  """
  rng = np.random.default_rng([seed, first])
  requests = []
  for number in range(first, first + count):
    temperature, top_p, top_k = _SAMPLINGS[number % len(_SAMPLINGS)]
    length = min(longest, int(rng.geometric(1 / mean_length)))
    requests.append(
      CompletionRequest(
        prompt=tuple(rng.integers(0, vocab_size, size=length).tolist()),
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=0.0,
        max_tokens=min(cap, int(rng.geometric(1 / mean_length))),
        stop=(),
        seed=number,
        n=1,
        top_logprobs=0,
      )
    )
  return requests


def ask_all(
  address: str, requests: Iterable[CompletionRequest], clients: int, *, seconds: float = float("inf")
) -> dict[int, LoadAnswer]:
  """Sends requests, from each client one after the other. Every second one is a stream.

  Args:
    address: of the server, http://HOST:PORT/v1.
    requests: in order; each is sent once.
    clients: how many wait for an answer at the same time.
    seconds: after which no further request is sent.

  Returns:
    the answers by the requests' seeds.

  Raises:
    RuntimeError: if a request gets no answer, or two have one seed.
  """
  waiting, answers, failures, lock = iter(requests), {}, [], threading.Lock()
  until = time.perf_counter() + seconds

  def client() -> None:
    connection = _connection(address)
    try:
      while not failures and time.perf_counter() < until:
        with lock:
          request = next(waiting, None)
        if request is None:
          return
        answer = _ask(connection, address, request, stream=request.seed % 2 == 0)
        with lock:
          if request.seed in answers:
            raise RuntimeError(f"two answers to request {request.seed}")
          answers[request.seed] = answer
    except Exception as error:
      failures.append(error)
    finally:
      connection.close()

  threads = [threading.Thread(target=client) for _ in range(clients)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  if failures:
    raise RuntimeError(f"a client failed: {failures[0]}") from failures[0]
  return answers


def _connection(address: str) -> http.client.HTTPConnection:
  parts = urllib.parse.urlsplit(address)
  return http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)


def _ask(
  connection: http.client.HTTPConnection, address: str, request: CompletionRequest, *, stream: bool
) -> LoadAnswer:
  fields = {name: getattr(request, name) for name in ("prompt", "temperature", "top_p", "top_k", "max_tokens", "seed")}
  if stream:
    fields |= {"stream": True, "stream_options": {"include_usage": True}}
  begun = time.perf_counter()
  path = f"{urllib.parse.urlsplit(address).path}/completions"
  connection.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
  response = connection.getresponse()
  if response.status != 200:
    raise RuntimeError(f"status {response.status}: {response.read(500)!r}")
  if stream:
    return _streamed(response, begun)
  found = json.loads(response.read())
  choice = found["choices"][0]
  seconds = time.perf_counter() - begun
  return LoadAnswer(choice["text"], found["usage"]["completion_tokens"], choice["finish_reason"], seconds, None, None)


def _streamed(response: http.client.HTTPResponse, begun: float) -> LoadAnswer:
  text, tokens, reason, first, last = "", 0, "", None, begun
  for event in _events(response):
    if choices := event["choices"]:
      last = time.perf_counter()
      first = first or last
      text += choices[0]["text"]
      reason = choices[0]["finish_reason"] or reason
    tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
  per_token = (last - first) / (tokens - 1) if tokens > 1 else None
  return LoadAnswer(text, tokens, reason, time.perf_counter() - begun, first - begun, per_token)


def _events(response: http.client.HTTPResponse) -> Iterator[Mapping[str, Any]]:
  ended = False
  while line := response.readline():
    if line.strip() == b"data: [DONE]":
      ended = True
    elif line.startswith(b"data: "):
      yield json.loads(line[6:])
  if not ended:
    raise RuntimeError("a stream ended before its answer did")
