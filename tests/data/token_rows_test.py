import collections

import numpy as np
import pytest

from posttrain_jax.data.token_files import TokenFile
from posttrain_jax.data.token_rows import TokenRows
from posttrain_jax.types import InputError


def file(*sizes, first=0):
  """Makes documents whose tokens are 100 · document + position, so that rows can be read by eye."""
  documents = [100 * (first + d) + np.arange(size) for d, size in enumerate(sizes)]
  tokens = np.concatenate([np.zeros(0, int), *documents])
  return TokenFile(tokens.astype(np.uint16), np.cumsum(sizes, dtype=np.int64))


def rows(files, length, **options):
  return TokenRows(files, length, **dict(batch_size=2, seed=0) | options)


def test_rows_worked_out_by_hand():
  found = rows([file(3, 4, 6), file(2, first=3)], 5, batch_size=4)
  assert (found.num_rows, found.num_examples, found.num_tokens) == (4, 4, 15)
  (batch,) = found.in_order()
  assert batch.tokens.tolist() == [
    [0, 1, 2, 100, 101],
    [102, 103, 200, 201, 202],
    [203, 204, 205, 0, 0],
    [300, 301, 0, 0, 0],
  ]
  assert batch.segment_ids.tolist() == [[1, 1, 1, 2, 2], [1, 1, 2, 2, 2], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
  assert batch.positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2], [0, 1, 2, 0, 0], [0, 1, 0, 0, 0]]
  # Nothing comes before the first token of a document, or of its part in a row.
  learned = [[0, 1, 1, 0, 1], [0, 1, 0, 1, 1], [0, 1, 1, 0, 0], [0, 1, 0, 0, 0]]
  assert batch.mask.astype(int).tolist() == learned == batch.weights.tolist()
  assert (found.num_learned, found.longest, found.efficiency) == (9, 3, 15 / 20)


@pytest.mark.parametrize("length", [3, 7, 16])
def test_counts_are_those_of_the_rows(length):
  sizes = np.random.default_rng(0).integers(1, 30, 40).tolist()
  found = rows([file(*sizes[:25]), file(), file(*sizes[25:], first=25)], length)
  batches = list(found.in_order())
  assert found.num_tokens == sum(sizes) == sum((batch.segment_ids > 0).sum() for batch in batches)
  assert found.num_learned == sum(batch.mask.sum() for batch in batches)
  assert found.longest == max(batch.positions.max() for batch in batches) + 1
  tokens = [token for batch in batches for token in batch.tokens[batch.segment_ids > 0].tolist()]
  assert tokens == [100 * document + i for document, size in enumerate(sizes) for i in range(size)]


def test_an_epoch_has_every_row_once_and_a_step_decides_its_batch():
  found = rows([file(*[5] * 30)], 10, batch_size=3)
  drawn = [tuple(row) for step in range(10) for row in found.batch(step).tokens.tolist()]
  expected = [tuple(row) for batch in found.in_order() for row in batch.tokens.tolist()]
  for epoch in (drawn[:15], drawn[15:]):
    assert collections.Counter(epoch) == collections.Counter(expected)
  assert drawn[:15] != drawn[15:] and drawn[:15] != expected
  again = rows([file(*[5] * 30)], 10, batch_size=3)
  np.testing.assert_array_equal(again.batch(7).tokens, found.batch(7).tokens)
  assert again.batch(7).draws.tolist() == [21, 22, 23]
  assert rows([file(*[5] * 30)], 10, batch_size=3, seed=1).batch(7).tokens.tolist() != found.batch(7).tokens.tolist()


def test_a_limit_on_rows():
  files = [file(3, 4, 6), file(2, first=3)]
  found = rows(files, 5, limit=2, batch_size=4)
  (batch,) = found.in_order()
  assert (found.num_rows, found.num_tokens, found.num_examples, found.num_learned) == (2, 10, 3, 6)
  assert (batch.segment_ids > 0).sum() == 10 and not batch.mask[2:].any()
  assert rows(files, 5, limit=9).num_rows == 4


def test_no_tokens_are_refused():
  with pytest.raises(InputError, match="no tokens"):
    rows([file(), file()], 5)
