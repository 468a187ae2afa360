"""Tests that the loss's denominator is counted over the whole update, however it is cut."""

import dataclasses

import jax
import numpy as np

from posttrain_jax.learner.policy_batch import TokenInputs, count_totals, with_old_logprobs
from tests.learner.small_policy import TC, TP, G, make_batch, pack


def batch():
  """Makes answers with these numbers of counted tokens, by prompt: (2, 1, 0), (0, 0, 0), (6, 0, 3).

  One of prompt 0's counted tokens is behind a hole.
  """
  mask = np.zeros((4, G, TC), bool)
  mask[0, 0, [0, 2]] = mask[0, 1, 5] = True
  mask[2, 0] = mask[2, 2, :3] = True
  correct = np.array([[True, False, True], [True] * 3, [False, False, True], [True] * 3])
  return dataclasses.replace(make_batch(prompts=4), mask=mask, correct=correct)


def test_totals_by_hand():
  totals = count_totals(batch())
  assert (totals.tokens, totals.rows, totals.prompts, totals.correct_tokens) == (12, 4, 2, 2 + 3)
  assert count_totals(dataclasses.replace(batch(), correct=None)).correct_tokens is None


def test_packed_places_know_their_answer_and_prompt():
  packed = pack(batch(), tokens=TP - 1 + TC)  # an answer of 6 tokens fills a row
  assert packed.count > 1 and packed.totals.tokens == 12
  parts, tokens = packed.parts, packed.parts.mask
  assert tokens.sum() == 12
  # Of prompt 0: two tokens of one answer, one of another; of prompt 2: six and three.
  assert sorted(parts.row_tokens[tokens]) == [1, 2, 2, 3, 3, 3, 6, 6, 6, 6, 6, 6]
  assert sorted(parts.prompt_tokens[tokens]) == [3] * 3 + [9] * 9
  assert parts.correct[tokens].sum() == 5 and parts.old_logprobs is None
  other = with_old_logprobs(packed, parts.advantages)
  assert other.parts.old_logprobs is parts.advantages and other.parts.mask is tokens


def test_on_policy_the_old_logprobs_are_the_learners_as_constants():
  learner = np.full((1, 1, 2), -2.0, np.float32)
  given = TokenInputs(
    *[learner] * 3, old_logprobs=learner + 1, reference_logprobs=None, weights=learner, nll_weights=None
  )
  assert given.old_logprobs_or(learner) is given.old_logprobs
  on = dataclasses.replace(given, old_logprobs=None)
  np.testing.assert_array_equal(on.old_logprobs_or(learner), learner)
  np.testing.assert_array_equal(jax.grad(lambda x: on.old_logprobs_or(x).sum())(learner), 0 * learner)
