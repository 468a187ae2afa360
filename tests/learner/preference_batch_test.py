"""Tests that a pair's answers, counts and reference logprobs stay together in packed rows."""

import jax
import numpy as np

from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.preference_batch import ReferencedBatch, counted_answers, pack_pairs
from posttrain_jax.parallel.mesh import make_mesh


def filled_batch():
  """Makes 5 pairs whose chosen answer n has n + 2 tokens 10 + n, in a batch of 7."""
  answers = [tuple(np.append(np.full(n, token), 2).astype(np.int32) for token in (10 + n, 20 + n)) for n in range(1, 6)]
  pairs = [Comparison((3, 4), each, (0, 1)) for each in answers]
  (batch,) = ComparisonBatches(pairs, batch_size=7, seed=0, count_end=False).in_order(7)
  return ReferencedBatch(batch, -np.arange(14, dtype=np.float32).reshape(7, 2) - 1)


def test_rows_that_fill_up_have_no_counted_token():
  batch = filled_batch().comparisons
  answers = counted_answers(batch)
  assert batch.mask[5:].any() and not answers.mask[5:].any()
  np.testing.assert_array_equal(answers.mask[:5], batch.mask[:5])


def test_numbers_of_a_pair_stay_with_its_answers():
  batch, mesh = filled_batch(), make_mesh({"data": 2}, jax.devices()[:2])
  update = pack_pairs(Division(7, 14), mesh, batch)
  assert update.totals == 5 and update.parts.rows.tokens.shape[1:] == (2, 14)
  pairs, rows, seen = update.parts.pairs, update.parts.rows, []
  for m, r, c in np.argwhere(pairs.real):
    for k in range(2):
      places = (rows.answers[m, r] == 2 * c + k) & update.parts.mask[m, r]
      (token,) = set(rows.targets[m, r][places].tolist())
      n = token - 10 * (k + 1)
      assert places.sum() == pairs.counts[m, r, c, k] == n  # without the end
      assert pairs.reference[m, r, c, k] == batch.reference[n - 1, k]
      seen.append((n, k))
  assert sorted(seen) == [(n, k) for n in range(1, 6) for k in range(2)]
  assert update.parts.mask.sum() == 2 * sum(range(1, 6)) and (pairs.counts[~pairs.real] == 0).all()


def test_an_update_without_a_pair_divides_by_1():
  batch = filled_batch()
  batch.comparisons.index[:] = -1
  update = pack_pairs(Division(7, 14), make_mesh({}, jax.devices()[:1]), batch)
  assert update.count == 0 and update.totals == 1
