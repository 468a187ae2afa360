"""Tests what happens between a request and its answer, without a network; `app_test.py` has the rest."""

import asyncio
import json

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("prometheus_client", reason="needs pip install 'posttrain_jax[serve]'")

import anyio

from posttrain_jax.serving.answering import Answering
from posttrain_jax.serving.completion import Refused
from posttrain_jax.serving.mailbox import Mailbox
from posttrain_jax.serving.metrics import ServingMetrics
from posttrain_jax.serving.openai_request import ParsedRequest
from posttrain_jax.types import InputError


def answering(model, seconds=60.0, **fields):
  asked = ParsedRequest(json.dumps({"prompt": "ab", "seed": 0, **fields}).encode(), chat=False)
  mailbox = Mailbox(asyncio.get_running_loop())
  return Answering(model, "tiny", asked, metrics=ServingMetrics({}), mailbox=mailbox, seconds=seconds)


def test_all_prompts_are_queued_or_none(model):
  async def submit(prompts):
    await answering(model, prompt=prompts, n=2).submit(chat=False)

  with pytest.raises(InputError, match="41 tokens"):
    anyio.run(submit, ["ab", "x" * 41])
  with pytest.raises(Refused, match="under way or wait"):
    anyio.run(submit, ["ab"] * 9)
  deadline = 200
  while sum(model.choices) and deadline:
    anyio.run(anyio.sleep, 0.05)
    deadline -= 1
  assert model.choices == (0, 0)


def test_events_come_as_they_are_drawn(model):
  async def events():
    stream = answering(model, n=2, stream=True)
    await stream.submit(chat=False)
    return [event async for event in stream.events()], stream.writer.tokens

  found, tokens = anyio.run(events)
  assert found[-1] == "data: [DONE]\n\n" and len(found) > 4 and tokens > 2


def test_time_that_is_up_ends_all_choices(model):
  async def events():
    stream = answering(model, seconds=0.0, n=3, stream=True)
    await stream.submit(chat=False)
    found = [event async for event in stream.events()]
    stream.cancel()
    return found

  found = anyio.run(events)
  assert sum('"finish_reason":"length"' in event for event in found) == 3
