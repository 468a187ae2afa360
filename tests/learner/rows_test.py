"""Tests groups cut over rows.

Every aggregation still weighs tokens, answers and prompts as before the cut.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from posttrain_jax.learner.objective import Aggregation
from posttrain_jax.learner.policy_batch import count_totals
from posttrain_jax.learner.policy_gradient import objective_weights
from posttrain_jax.learner.rows import split_rows
from posttrain_jax.learner.value import ValueBatch
from tests.learner import mesh_test
from tests.learner.settings import make_objective


@functools.cache
def batch():
  """Makes 8 prompts of 3 answers; one answer and one whole prompt have no counted token."""
  made = mesh_test.policy_batch(8)
  made.mask[2] = False
  return dataclasses.replace(made, correct=np.arange(24).reshape(8, 3) % 2 == 0)


def test_each_row_has_the_prompt_and_its_own_answers():
  whole, cut = batch(), split_rows(batch(), 3)
  assert cut.answers.shape == (24, 1, 6) and cut.advantages.shape == (24, 1, 1) and cut.old_logprobs is None
  for p in range(8):
    for g in range(3):
      row = 3 * p + g
      np.testing.assert_array_equal(cut.prompts[row], whole.prompts[p])
      assert cut.prompt_lengths[row] == whole.prompt_lengths[p] and cut.prompt_tokens[row] == whole.mask[p].sum()
      for name in ("answers", "mask", "advantages", "sampler_logprobs", "correct"):
        np.testing.assert_array_equal(getattr(cut, name)[row, 0], getattr(whole, name)[p, g])
  assert split_rows(whole, 1) is whole


def test_a_batch_of_values():
  whole = batch()
  arrays = {name: getattr(whole, name) for name in ("prompts", "prompt_lengths", "answers", "mask")}
  cut = split_rows(ValueBatch(**arrays, old_values=whole.sampler_logprobs, returns=whole.sampler_logprobs), 3)
  np.testing.assert_array_equal(cut.returns[4, 0], whole.sampler_logprobs[1, 1])


@pytest.mark.parametrize("aggregation", Aggregation)
def test_rows_and_micro_batches_add_up_to_the_same_loss(aggregation):
  objective = make_objective(aggregation=aggregation, max_new_tokens=6)
  whole, cut = batch(), split_rows(batch(), 3)
  totals, of_rows = count_totals(whole), count_totals(cut)
  assert jax.tree.map(int, of_rows) == jax.tree.map(int, totals)
  assert totals.prompts == 7
  expected = (objective_weights(objective, whole, totals) * whole.sampler_logprobs).sum()
  parts = 0.0
  for rows in np.arange(24).reshape(6, 4):  # the rows of a prompt fall into different micro-batches
    part = jax.tree.map(lambda x, rows=rows: x[rows], cut)
    parts += (objective_weights(objective, part, of_rows) * part.sampler_logprobs).sum()
  np.testing.assert_allclose(parts, expected, rtol=1e-5)
