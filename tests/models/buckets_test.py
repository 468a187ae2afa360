import numpy as np
import pytest

from posttrain_jax.models.buckets import bucket, map_rows


@pytest.mark.parametrize("length, width", [(1, 16), (16, 16), (17, 32), (32, 32), (33, 64)])
def test_the_least_power_of_two_that_holds_a_row(length, width):
  assert bucket(length) == width


@pytest.mark.parametrize(
  "tokens_per_batch, shards, expected",
  [
    (64, 1, [(4, 16), (4, 16), (2, 32), (1, 128)]),  # a row longer than a batch goes alone
    (64, 2, [(4, 16), (4, 16), (2, 32), (2, 128)]),
    (96, 4, [(4, 16), (4, 16), (4, 32), (4, 128)]),  # 6 rows of 16 are no multiple of 4
  ],
)
def test_one_shape_a_bucket_and_every_row_its_own_value(tokens_per_batch, shards, expected):
  rows = [np.arange(1, length + 1) for length in (3, 20, 1, 16, 5, 100, 2, 32)]
  shapes = []

  def sums(tokens, lengths):
    assert tokens.shape[:1] == lengths.shape and lengths.min() >= 1
    assert not tokens[np.arange(tokens.shape[1]) >= lengths[:, None]].any()
    shapes.append(tokens.shape)
    return np.stack([tokens.sum(axis=1), lengths], axis=1)

  found = map_rows(sums, rows, tokens_per_batch=tokens_per_batch, shards=shards)
  assert shapes == expected
  np.testing.assert_array_equal(found, [(row.sum(), len(row)) for row in rows])
