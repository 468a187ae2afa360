"""Makes requests to a server, and sends them from many clients at once."""

import threading
import time
from collections.abc import Iterable

import numpy as np

from posttrain_jax.performance.serving_client import LoadAnswer, LoadClient, RawAnswer, request_bytes
from posttrain_jax.serving.completion import CompletionRequest

# Temperature, top_p and top_k of requests, in turn.
_SAMPLINGS = ((1.0, 1.0, 0), (0.7, 0.9, 0), (0.0, 1.0, 0), (0.8, 1.0, 50))


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
) -> tuple[dict[int, LoadAnswer], float]:
  """Sends requests, from each client one after the other. Every second one is a stream.

  Args:
    address: of the server, http://HOST:PORT/v1.
    requests: in order; each is sent once.
    clients: how many wait for an answer at the same time.
    seconds: after which no further request is sent.

  Returns:
    (the answers by the requests' seeds, the seconds from the first request to the last answer).

  Raises:
    RuntimeError: if a request gets no answer, or two have one seed.
  """
  waiting = iter([(each.seed, request_bytes(address, each, stream=each.seed % 2 == 0)) for each in requests])
  answers: dict[int, RawAnswer] = {}
  failures, lock, begun = [], threading.Lock(), []
  ready = threading.Barrier(clients, lambda: begun.append(time.perf_counter()))

  def client() -> None:
    try:
      with LoadClient(address) as asking:
        ready.wait()
        while not failures and time.perf_counter() < begun[0] + seconds:
          with lock:
            seed, request = next(waiting, (None, b""))
          if seed is None:
            return
          answer = asking.ask(request)
          with lock:
            if seed in answers:
              raise RuntimeError(f"two answers to request {seed}")
            answers[seed] = answer
    except Exception as error:
      failures.append(error)
      ready.abort()  # the others' waiting, if this one could not connect

  threads = [threading.Thread(target=client) for _ in range(clients)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  ended = time.perf_counter()
  if failures:
    raise RuntimeError(f"a client failed: {failures[0]}") from failures[0]
  return {seed: answer.read() for seed, answer in answers.items()}, ended - begun[0]
