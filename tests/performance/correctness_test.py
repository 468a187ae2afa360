"""Tests that the checks pass here, in bfloat16 too, and that wrong numbers do not."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models import attention
from posttrain_jax.performance import correctness

SMALL = dict(rows=2, length=8)


def test_attention():
  found = correctness.attention_errors(64, **SMALL)
  assert len(found) == 4 and all(0 < error < correctness._BOUND for error in found.values())


def test_attention_that_sees_later_tokens(monkeypatch):
  right = attention.causal

  def wrong(segment_ids=None):
    def attend(query, key, value, cache):
      return right(segment_ids)(query, key[:, ::-1], value[:, ::-1], cache)

    return attend

  monkeypatch.setattr(attention, "causal", wrong)
  found = correctness.attention_errors(64, **SMALL)
  assert all(error > 10 * correctness._BOUND for error in found.values())


def test_losses():
  found = correctness.loss_errors(tokens=32, width=16, vocab=64)
  assert len(found) == 6 and all(error < correctness._BOUND for error in found.values())


def test_a_loss_of_other_targets(monkeypatch):
  right = correctness.token_logprobs
  monkeypatch.setattr(
    correctness, "token_logprobs", lambda hidden, head, targets, **how: right(hidden, head, targets[:, ::-1], **how)
  )
  found = correctness.loss_errors(tokens=32, width=16, vocab=64)
  assert {name for name, error in found.items() if error > correctness._BOUND} == {
    "loss of logprobs",
    "logprobs and entropies, loss of logprobs",
    "gradient, loss of logprobs",
  }


def test_decoding():
  (error,) = correctness.decode_errors(8, prompts=8, length=3, vocab=64).values()
  assert 0 < error < correctness._BOUND


@pytest.mark.slow
def test_decoding_with_other_weights(monkeypatch):
  right = correctness.loaded_engine

  def wrong(work):
    engine = right(work)
    params = engine.params
    engine.load(jax.tree.map(lambda x: x * 1.1, params), version=0)
    return types.SimpleNamespace(params=params, generate=engine.generate)

  monkeypatch.setattr(correctness, "loaded_engine", wrong)
  (error,) = correctness.decode_errors(8, prompts=8, length=3, vocab=64).values()
  assert error > correctness._BOUND


def test_all_checks_are_named(monkeypatch):
  for name in ("attention_errors", "decode_errors"):
    monkeypatch.setattr(correctness, name, lambda head_dim, name=name, **_: {f"{name} {head_dim}": 0.001})
  monkeypatch.setattr(correctness, "loss_errors", lambda **_: {"losses": float("nan")})
  found = correctness.checks()
  assert [check["check"] for check in found] == [
    "attention_errors 64",
    "decode_errors 64",
    "attention_errors 128",
    "decode_errors 128",
    "losses",
  ]
  assert [check["passed"] for check in found] == [True] * 4 + [False]


def test_the_error_is_relative():
  assert correctness._error([jnp.asarray([3.0, 4.4])], [np.asarray([3.0, 4.0])]) == pytest.approx(0.4 / 5)
