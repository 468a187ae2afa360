"""Tests the server over HTTP, with OpenAI's own client and with raw requests."""

import concurrent.futures
import socket
import threading
import time

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("prometheus_client", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("openai", reason="needs pip install 'posttrain_jax[test]'")
pytest.importorskip("httpx", reason="needs pip install 'posttrain_jax[test]'")

import httpx
import openai
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.serving.app import RequestLimits
from posttrain_jax.serving.asked_prompt import prompt_tokens
from tests.serving.local_server import new_app, served
from tests.serving.served import AloneEngine, asked, new_model

MESSAGES = [{"role": "user", "content": "hé"}]


async def _page(request):
  return PlainTextResponse("a page")


@pytest.fixture(scope="module")
def url(model):
  with served(new_app(model, routes=[Route("/page", _page)])) as address:
    yield address


@pytest.fixture(scope="module")
def client(url):
  with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as found:
    yield found


@pytest.fixture(scope="module")
def alone(folder):
  return AloneEngine(folder)


def chat_tokens(model):
  return prompt_tokens(tuple(MESSAGES), model.tokenizer, PromptFormat(chat=True))


def test_a_chat_is_what_the_engine_gives_alone(client, model, alone):
  found = client.chat.completions.create(
    model="tiny",
    messages=MESSAGES,
    temperature=0.7,
    top_p=0.9,
    n=2,
    seed=5,
    max_completion_tokens=20,
    logprobs=True,
    top_logprobs=2,
    extra_body={"top_k": 50},
  )
  request = asked(temperature=0.7, top_p=0.9, top_k=50, n=2, seed=5, max_tokens=20)
  expected = alone.answers(chat_tokens(model), request)
  assert [choice.message.content for choice in found.choices] == [text for _, _, text, _ in expected]
  assert [choice.finish_reason for choice in found.choices] == [reason for *_, reason in expected]
  logprobs = [[each.logprob for each in choice.logprobs.content] for choice in found.choices]
  assert logprobs == [values[: len(values) - (reason == "stop")] for _, values, _, reason in expected]
  assert {len(each.top_logprobs) for each in found.choices[0].logprobs.content} == {2}
  assert found.system_fingerprint == model.version and found.object == "chat.completion"
  drawn = sum(len(tokens) for tokens, *_ in expected)
  assert found.usage.completion_tokens == drawn
  assert found.usage.prompt_tokens == len(chat_tokens(model)) == found.usage.total_tokens - drawn


def test_a_stream_adds_up_to_the_whole_answer(client):
  options = dict(model="tiny", messages=MESSAGES, n=3, seed=2)
  whole = client.chat.completions.create(**options)
  chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
  texts, reasons = [""] * 3, [None] * 3
  for chunk in chunks:
    for choice in chunk.choices:
      assert reasons[choice.index] is None
      texts[choice.index] += choice.delta.content or ""
      reasons[choice.index] = choice.finish_reason
  assert texts == [choice.message.content for choice in whole.choices]
  assert reasons == [choice.finish_reason for choice in whole.choices]
  assert chunks[-1].usage == whole.usage and chunks[-1].choices == []
  assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].index == 0]) > 3


def test_completions_of_several_prompts_whole_and_as_a_stream(client, alone, model):
  options = dict(model="tiny", prompt=["ab", [104, 9]], n=2, seed=1, max_tokens=9, stop=["e", "\n"], logprobs=1)
  whole = client.completions.create(**options)
  request = asked(n=2, seed=1, max_tokens=9, stop=("e", "\n"))
  expected = [*alone.answers(model.tokenizer.encode("ab"), request), *alone.answers([104, 9], request)]
  assert [choice.text for choice in whole.choices] == [text for _, _, text, _ in expected]
  assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
  assert whole.choices[0].logprobs.token_logprobs[0] == expected[0][1][0]
  texts = [""] * 4
  for chunk in client.completions.create(**options, stream=True):
    texts[chunk.choices[0].index] += chunk.choices[0].text
  assert texts == [choice.text for choice in whole.choices]


def test_models_and_pages(client, url, model):
  (found,) = client.models.list().data
  assert (found.id, found.object, found.system_fingerprint) == ("tiny", "model", model.version)
  assert client.models.retrieve("tiny").max_completion_tokens == 24
  with pytest.raises(openai.NotFoundError):
    client.models.retrieve("other")
  assert httpx.get(f"{url}/page").text == "a page"
  assert httpx.get(f"{url}/health").json() == {"status": "ok", "models": {"tiny": model.version}}
  assert httpx.get(f"{url}/nothing").status_code == 404
  assert httpx.get(f"{url}/v1/completions").status_code == 405
  metrics = httpx.get(f"{url}/metrics")
  assert metrics.headers["content-type"].startswith("text/plain") and "posttrain_jax_requests_total" in metrics.text


@pytest.mark.parametrize(
  ("changes", "error", "code"),
  [
    (dict(model="other"), "NotFoundError", "model_not_found"),
    (dict(temperature=9), "UnprocessableEntityError", None),
    (dict(max_tokens=25), "UnprocessableEntityError", None),
    (dict(n=17), "UnprocessableEntityError", None),
    (dict(tools=[{"type": "function"}]), "BadRequestError", "unsupported_parameter"),
    (dict(messages=[{"role": "user", "content": "x" * 60}]), "UnprocessableEntityError", None),
    (dict(messages=[{"role": "robot", "content": "x"}]), "UnprocessableEntityError", None),
    (dict(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "UnprocessableEntityError", None),
    (dict(messages=[{"role": "user", "content": "x" * 200_000}]), "APIStatusError", None),
  ],
  ids=lambda value: str(value)[:40],
)
def test_clients_are_told_what_is_wrong(client, changes, error, code):
  with pytest.raises(getattr(openai, error)) as refused:
    client.chat.completions.create(**{**dict(model="tiny", messages=MESSAGES), **changes})
  assert refused.value.code == code and len(str(refused.value)) < 600
  if error == "APIStatusError":
    assert refused.value.status_code == 413


def test_hostile_bodies_get_an_answer_and_others_do_not_notice(url, client):
  before = client.completions.create(model="tiny", prompt="ab", seed=3)
  for body in (b"", b"[" * 50_000, b"\x00" * 100, b'{"prompt": "' + b"a" * 90_000 + b'"}', b'{"prompt": "\\ud800"}'):
    found = httpx.post(f"{url}/v1/completions", content=body)
    assert found.status_code in (400, 422) and found.json()["error"]["message"]
  assert (
    httpx.post(f"{url}/v1/completions", content=b"{}", headers={"Origin": "https://evil.example"}).status_code == 403
  )
  host, port = url.removeprefix("http://").split(":")
  for raw in (b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01garbage\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\n\r\n"):
    with socket.create_connection((host, int(port)), 5) as connection:
      connection.sendall(raw)
      assert connection.recv(12)[:8] == b"HTTP/1.1"
  after = client.completions.create(model="tiny", prompt="ab", seed=3)
  assert after.choices == before.choices


def slow(folder, seconds):
  """Makes a model that takes a while for each dispatch of four tokens."""
  model = new_model(folder)
  step = model._engine._engine.step
  model._engine._engine.step = lambda: (time.sleep(seconds), step())[1]
  return model


def idle(model):
  """Waits until nothing runs; a model that goes on drawing for nobody would take seconds."""
  deadline = time.monotonic() + 10
  while sum(model.choices) and time.monotonic() < deadline:
    time.sleep(0.01)
  return sum(model.choices) == 0


LONG = dict(model="tiny", prompt="ab", seed=0, n=4)


def test_a_client_that_leaves_is_cancelled_and_the_others_are_not(folder, alone):
  model = slow(folder, 0.1)
  app = new_app(model)
  with served(app) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      other = pool.submit(client.completions.create, model="tiny", prompt="ab", seed=9)
      while not model.choices[0]:
        time.sleep(0.01)
      stream = client.completions.create(**LONG, stream=True)
      next(iter(stream))
      stream.close()
      with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).completions.create(**LONG)
      expected = alone.answers(model.tokenizer.encode("ab"), asked(seed=9))
      assert other.result().choices[0].text == expected[0][2]
    assert idle(model) and model._running == {}
    time.sleep(0.05)
    assert app.under_way == 0
    assert 'cancelled_total{model="tiny"} 2.0' in httpx.get(f"{address}/metrics").text
  model.close()


def test_limits_of_queue_client_and_time(folder):
  model = slow(folder, 0.1)
  with (
    served(new_app(model, RequestLimits(seconds=0.35, per_client=3))) as address,
    openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client,
    concurrent.futures.ThreadPoolExecutor(4) as pool,
  ):
    waiting = [pool.submit(client.completions.create, **(LONG | {"n": n})) for n in (4, 12)]
    while sum(model.choices) < 16:
      time.sleep(0.01)
    with pytest.raises(openai.RateLimitError, match="16 choices are under way or wait") as refused:
      client.completions.create(**LONG)
    assert refused.value.response.headers["retry-after"] == "1"
    cut = [choice for future in waiting for choice in future.result().choices]
    assert {choice.finish_reason for choice in cut} == {"length"}
    assert any(choice.text for choice in cut) and not cut[-1].text
    assert idle(model)
    streams = [client.completions.create(**LONG, stream=True) for _ in range(3)]
    with pytest.raises(openai.RateLimitError, match="3 requests of this client are under way"):
      client.completions.create(**LONG)
    last = [chunk.choices[0].finish_reason for stream in streams for chunk in stream]
    assert last.count("length") == 12
  model.close()


def test_while_it_shuts_down_new_requests_are_refused_and_running_ones_finished(folder):
  model = slow(folder, 0.1)
  app = new_app(model)
  with served(app) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client:
    stream = client.completions.create(**LONG, stream=True)
    next(iter(stream))
    app.closing = True
    with pytest.raises(openai.InternalServerError, match="shutting down") as refused:
      client.completions.create(**LONG)
    assert refused.value.status_code == 503 and refused.value.response.headers["retry-after"] == "5"
    assert httpx.get(f"{address}/health").status_code == 503
    assert sum(chunk.choices[0].finish_reason is not None for chunk in stream) == 4
  model.close()


def test_a_model_that_fails_gives_500_and_then_503(folder):
  model = new_model(folder)

  def broken():
    raise ValueError("out of memory")

  model._engine._engine.step = broken
  with served(new_app(model)) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client:
    with pytest.raises(openai.InternalServerError, match="out of memory") as failed:
      client.completions.create(**LONG)
    assert failed.value.status_code == 500
    with pytest.raises(openai.InternalServerError, match="the model has failed") as refused:
      client.completions.create(**LONG)
    assert refused.value.status_code == 503
    assert httpx.get(f"{address}/health").json()["failed"] == {"tiny": "out of memory"}
  model.close()


def test_a_stream_ends_with_the_error_if_the_model_fails_on_the_way(folder):
  model = new_model(folder)
  step, calls = model._engine._engine.step, []

  def broken():
    calls.append(1)
    if len(calls) > 1:
      raise ValueError("out of memory")
    return step()

  model._engine._engine.step = broken
  with (
    served(new_app(model)) as address,
    openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client,
    pytest.raises(openai.APIError, match="out of memory"),
  ):
    list(client.completions.create(**LONG, stream=True))
  model.close()


def test_many_clients_at_once_get_their_own_answers(client, alone, model):
  """Nothing is lost, doubled or mixed up."""
  results, lock = {}, threading.Lock()

  def ask(seed):
    stream = seed % 2 == 0
    options = dict(model="tiny", prompt=f"{seed}", seed=seed, max_tokens=1 + seed % 20, temperature=0.5 + seed % 3 / 2)
    while True:
      try:
        found = client.completions.create(**options, stream=stream)
        text = "".join(chunk.choices[0].text for chunk in found) if stream else found.choices[0].text
        break
      except openai.RateLimitError:
        time.sleep(0.05)
    with lock:
      assert seed not in results
      results[seed] = text

  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    list(pool.map(ask, range(60)))
  for seed in range(60):
    request = asked(seed=seed, max_tokens=1 + seed % 20, temperature=0.5 + seed % 3 / 2)
    assert results[seed] == alone.answers(model.tokenizer.encode(f"{seed}"), request)[0][2]
