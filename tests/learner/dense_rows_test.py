"""Tests that examples share rows, whole, and that full rows stay as they are."""

import jax
import numpy as np
import pytest

from posttrain_jax.data.encoding import Example
from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.learner.dense_rows import dense_rows


def batch_of(lengths, *, size, width, packed=False):
  rng = np.random.default_rng(0)
  examples = []
  for length in lengths:
    mask = rng.random(length) < 0.6
    mask[-1] = True
    examples.append(Example(rng.integers(3, 99, length).astype(np.int32), mask, "here"))
  batches = SupervisedBatches(examples, batch_size=size, seed=0, length=width, packed=packed, weighting="sequence")
  return next(batches.in_order())


def examples_of(batch):
  """Lists what each example has: tokens, mask, positions, weights."""
  fields = (batch.tokens, batch.mask, batch.positions, batch.weights)
  numbers = [(row, number) for row in range(len(batch.tokens)) for number in range(1, batch.segment_ids[row].max() + 1)]
  return sorted(tuple(tuple(x[row][batch.segment_ids[row] == n].tolist()) for x in fields) for row, n in numbers)


def test_examples_share_rows_and_lose_nothing():
  batch = batch_of([5, 2, 7, 3, 3, 4], size=8, width=8)  # 7 | 5 3 | 4 3 | 2
  dense, used = dense_rows(batch)
  assert used == 4 and jax.tree.map(np.shape, dense) == jax.tree.map(np.shape, batch)
  assert examples_of(dense) == examples_of(batch) and len(examples_of(batch)) == 6
  assert dense.segment_ids[:used].any(1).all() and not dense.segment_ids[used:].any() and not dense.weights[used:].any()
  np.testing.assert_array_equal(dense.draws, batch.draws)
  for row in dense.segment_ids:
    numbers = row[row > 0]
    assert (np.diff(numbers) >= 0).all() and not row[len(numbers) :].any()  # one after the other, then padding


def test_rows_of_several_examples_are_filled_too():
  batches = [batch_of(lengths, size=1, width=10, packed=True) for lengths in ([3, 3], [3], [4])]
  batch = jax.tree.map(lambda *rows: np.concatenate(rows), *batches)
  assert batch.segment_ids.max(1).tolist() == [2, 1, 1]
  dense, used = dense_rows(batch)
  assert used == 2 and examples_of(dense) == examples_of(batch) and len(examples_of(batch)) == 4


@pytest.mark.parametrize("lengths", [[8, 8, 8], [5, 5, 5]])
def test_a_batch_that_needs_all_its_rows_stays_as_it_is(lengths):
  batch = batch_of(lengths, size=3, width=8)
  dense, used = dense_rows(batch)
  assert dense is batch and used == 3


def test_nothing():
  batch = jax.tree.map(np.zeros_like, batch_of([4], size=2, width=8))
  assert dense_rows(batch) == (batch, 0)
