"""Tests what is kept of a dispatch, without a device."""

import numpy as np

from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.results import not_finite, store
from posttrain_jax.sampling.state import Drawn
from posttrain_jax.types import FinishReason, Prompt
from tests.sampling.ledger_test import new_places


def running(count):
  ledger = Ledger(new_places(slots=4, rows=8))
  ledger.add(Prompt(6, (1, 2), {}), [None] * count)
  ledger.place()
  ledger.begin(ledger.beginning.values())
  return ledger


def drawn(*columns, steps=3):
  """Makes a dispatch's output from each slot's tokens."""
  tokens, active = np.zeros((steps, 8), np.int32), np.zeros((steps, 8), bool)
  for slot, column in enumerate(columns):
    tokens[: len(column), slot], active[: len(column), slot] = column, True
  logprobs = np.where(active, -tokens.astype(np.float32), np.nan)
  return Drawn(tokens=tokens, sampler_logprobs=logprobs, drawn_logprobs=2 * logprobs, active=active, steps=steps)


def test_answers_end_at_stop_ids_and_caps_and_others_go_on():
  ledger = running(3)
  found = drawn([4, 9], [4, 5, 6], [4, 5, 7])
  assert not_finite(found, ledger) is None  # only tokens that were drawn count
  still = np.array([False, True, False, *[False] * 5])
  stored = store(found, still, ledger, version=2, sampling=SamplingConfig(stop_ids=(9,)), decode=None)
  assert (stored.completed, stored.cut, ledger.ended, stored.kept, stored.live) == ([], [], 2, 8, 8)
  assert list(ledger.running) == [1] and ledger.running[1].drawn == 3
  (group,) = store(
    drawn([], [3]), np.zeros(8, bool), ledger, version=3, sampling=SamplingConfig(), decode=None
  ).completed
  assert [answer.finish_reason for answer in group.answers] == [
    FinishReason.EOS,
    FinishReason.LENGTH,
    FinishReason.LENGTH,
  ]
  np.testing.assert_array_equal(group.answers[1].tokens, [4, 5, 6, 3])
  np.testing.assert_array_equal(group.answers[1].versions, [2, 2, 2, 3])
  np.testing.assert_array_equal(group.answers[1].drawn_logprobs, [-8, -10, -12, -6])


def test_a_stop_string_cuts_the_answer_and_the_device_has_to_hear_of_it():
  ledger = running(2)
  sampling = SamplingConfig(stop_strings=("5;",))
  text = lambda tokens: "".join(f"{token};" for token in tokens)  # noqa: E731
  stored = store(drawn([4, 5, 6], [4, 6, 7]), np.ones(8, bool), ledger, version=0, sampling=sampling, decode=text)
  assert (stored.cut, stored.kept, stored.live, list(ledger.running)) == ([0], 5, 6, [1])
  assert [(new.sample, new.tokens.tolist(), new.finish_reason) for new in stored.new] == [
    (0, [4, 5], FinishReason.EOS),
    (1, [4, 6, 7], None),
  ]
  assert stored.new[0].drawn_logprobs.tolist() == [-8, -10] and stored.new[0].top is None


def test_logprobs_that_are_not_finite_name_their_prompt():
  ledger, found = running(1), drawn([4])
  found.sampler_logprobs[0, 0] = np.inf
  assert not_finite(found, ledger).index == 6
