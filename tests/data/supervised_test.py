import collections

import chex
import jax
import numpy as np
import pytest

from posttrain_jax.data import supervised
from posttrain_jax.data.encoding import Example
from posttrain_jax.data.supervised import SupervisedBatches, TooLongExample, Weighting
from posttrain_jax.types import InputError


def examples_of(*sizes):
  """Makes examples with prompts of 2 tokens and the given numbers of learned tokens, all tokens different."""
  examples, start = [], 10
  for size in sizes:
    tokens = np.arange(start, start + 2 + size, dtype=np.int32)
    examples.append(Example(tokens, np.arange(2 + size) >= 2, f"d.jsonl:{len(examples) + 1}"))
    start += 2 + size
  return examples


def test_a_limit_on_learned_tokens_cuts_the_end_token_off():
  # Learned tokens 3, 4, 5; limit 4: the last example loses its last token.
  examples, changed = supervised.limit_length(examples_of(3, 4, 5), max_learned=4, too_long=TooLongExample.CUT)
  assert changed == 1
  assert [len(example.tokens) for example in examples] == [5, 6, 6]
  assert [int(example.mask.sum()) for example in examples] == [3, 4, 4]


def test_a_limit_on_all_tokens_cuts_or_drops():
  cut, changed = supervised.limit_length(examples_of(3, 4), max_length=5, too_long=TooLongExample.CUT)
  assert (changed, [len(example.tokens) for example in cut]) == (1, [5, 5])
  dropped, changed = supervised.limit_length(examples_of(3, 4), max_length=5, too_long=TooLongExample.DROP)
  assert (changed, [len(example.tokens) for example in dropped]) == (1, [5])


def test_examples_over_the_limit_or_left_with_nothing_to_learn_are_refused():
  with pytest.raises(
    InputError,
    match=r"^d.jsonl:2: 6 tokens, 4 of them to be learned; the limits are 5 \(row_length\) and None",
  ):
    supervised.limit_length(examples_of(3, 4), max_length=5, too_long=TooLongExample.ERROR)
  with pytest.raises(InputError, match=r"^d.jsonl:1: no token to be learned among the first 2$"):
    supervised.limit_length(examples_of(3), max_length=2, too_long=TooLongExample.CUT)


def test_packing_puts_the_longest_first_into_the_first_row_with_room():
  # Lengths 3, 5, 6, 5, 4 in rows of 10, longest first: 6 | 5; 5 behind 5; 4 behind 6; 3 opens a third row.
  assert supervised.pack(examples_of(1, 3, 4, 3, 2), 10) == [[2, 4], [1, 3], [0]]


def test_packing_fills_rows_and_breaks_none():
  sizes = np.random.default_rng(0).integers(1, 45, 1000)
  examples = examples_of(*sizes)
  rows = supervised.pack(examples, 64)
  assert sorted(i for row in rows for i in row) == list(range(1000))
  filled = [sum(len(examples[i].tokens) for i in row) for row in rows]
  assert max(filled) <= 64
  assert sum(filled) / (64 * len(rows)) > 0.99  # 0.97 in order of arrival
  assert supervised.pack(examples, 64) == rows


@pytest.mark.parametrize("packed", [False, True])
def test_every_epoch_has_every_example_once(packed):
  sizes = np.random.default_rng(0).integers(1, 8, 60)
  examples = examples_of(*sizes)
  batches = SupervisedBatches(examples, batch_size=1, seed=0, length=20, packed=packed)
  assert (batches.num_rows < 30) == packed
  learned = sorted(int(token) for e in examples for token in e.tokens[e.mask])
  for epoch in range(2):
    steps = range(epoch * batches.num_rows, (epoch + 1) * batches.num_rows)
    batch = [batches.batch(step) for step in steps]
    assert sorted(int(token) for b in batch for token in b.tokens[b.mask]) == learned


def test_a_step_decides_its_batch_and_epochs_differ():
  def make(seed):
    return SupervisedBatches(examples_of(*range(1, 8)), batch_size=3, seed=seed)

  forward = [make(0).batch(step) for step in range(7)]
  batches = make(0)
  for step in reversed(range(7)):
    chex.assert_trees_all_equal(batches.batch(step), forward[step])
  # 7 steps of 3 rows are 3 epochs of 7 rows: a batch over an epoch's end takes from both.
  order = np.concatenate([batch.tokens[:, 0] for batch in forward])
  assert set(collections.Counter(order.tolist()).values()) == {3}
  epochs = {tuple(order[start : start + 7]) for start in (0, 7, 14)}
  assert len(epochs) == 3
  assert not np.array_equal(make(1).batch(0).tokens, forward[0].tokens)


def test_layout_of_a_packed_row():
  batch = SupervisedBatches(examples_of(2, 1), batch_size=1, seed=0, length=8, packed=True, pad_id=99).batch(0)
  np.testing.assert_array_equal(batch.tokens, [[10, 11, 12, 13, 14, 15, 16, 99]])
  np.testing.assert_array_equal(batch.mask, np.array([[0, 0, 1, 1, 0, 0, 1, 0]], bool))
  np.testing.assert_array_equal(batch.segment_ids, [[1, 1, 1, 1, 2, 2, 2, 0]])
  np.testing.assert_array_equal(batch.positions, [[0, 1, 2, 3, 0, 1, 2, 0]])


def test_a_first_token_is_never_learned():
  batch = SupervisedBatches([Example(np.arange(3), np.ones(3, bool))], batch_size=1, seed=0).batch(0)
  np.testing.assert_array_equal(batch.mask, [[False, True, True]])


@pytest.mark.parametrize(
  "weighting, expected", [(Weighting.TOKEN, [1, 1, 1, 1]), (Weighting.SEQUENCE, [1 / 3, 1 / 3, 1 / 3, 1])]
)
def test_weights_of_a_packed_row(weighting, expected):
  batches = SupervisedBatches(examples_of(3, 1), batch_size=1, seed=0, length=10, packed=True, weighting=weighting)
  batch = batches.batch(0)
  np.testing.assert_array_equal(batch.mask, np.array([[0, 0, 1, 1, 1, 0, 0, 1, 0, 0]], bool))
  np.testing.assert_array_equal(batch.weights[batch.mask], np.array(expected, np.float32))
  np.testing.assert_array_equal(batch.weights[~batch.mask], 0)


def test_a_first_token_takes_no_part_in_its_examples_weight():
  # Three tokens, all of them marked: two can be learned.
  example = Example(np.arange(3), np.ones(3, bool))
  batch = SupervisedBatches([example], batch_size=1, seed=0, weighting=Weighting.SEQUENCE).batch(0)
  np.testing.assert_array_equal(batch.weights, [[0, 0.5, 0.5]])


def test_counts_and_efficiency():
  # Lengths 6, 5, 4 in rows of 10: 6 + 4 | 5.
  batches = SupervisedBatches(examples_of(4, 3, 2), batch_size=1, seed=0, length=10, packed=True)
  assert (batches.num_rows, batches.num_examples, batches.num_tokens, batches.num_learned) == (2, 3, 15, 9)
  assert batches.efficiency == 15 / 20


def test_rows_are_counted_over_the_whole_training():
  batches = SupervisedBatches(examples_of(1, 2, 1), batch_size=2, seed=0)
  assert [batches.batch(step).draws.tolist() for step in (0, 1, 50)] == [[0, 1], [2, 3], [100, 101]]


def test_in_order_gives_every_row_once_and_fills_up_with_nothing():
  batches = SupervisedBatches(examples_of(1, 2, 1), batch_size=2, seed=0, pad_id=9)
  first, last = batches.in_order()
  np.testing.assert_array_equal(first.tokens, [[10, 11, 12, 9], [13, 14, 15, 16]])
  np.testing.assert_array_equal(last.tokens, [[17, 18, 19, 9], [9, 9, 9, 9]])
  for leaf in (last.mask, last.segment_ids, last.positions, last.weights):
    assert leaf[0].any() and not leaf[1].any()


def test_batches_are_pytrees_of_arrays():
  batch = SupervisedBatches(examples_of(2, 1), batch_size=2, seed=0).batch(0)
  assert [leaf.dtype for leaf in jax.tree.leaves(batch)] == [np.int32, bool, np.int32, np.int32, np.float32, np.int32]


def test_no_examples_and_examples_over_the_length_are_refused():
  with pytest.raises(InputError, match="no examples"):
    SupervisedBatches([], batch_size=1, seed=0)
  with pytest.raises(InputError, match=r"^d.jsonl:1: 5 tokens, the limit is 4$"):
    SupervisedBatches(examples_of(3), batch_size=1, seed=0, length=4)


def test_an_example_with_nothing_to_learn_is_refused():
  with pytest.raises(InputError, match=r"^d.jsonl:7: no token to be learned among 2$"):
    SupervisedBatches([Example(np.arange(2), np.array([True, False]), "d.jsonl:7")], batch_size=1, seed=0)
