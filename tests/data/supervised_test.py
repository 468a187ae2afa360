import collections

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.data import supervised
from posttrain_jax.data.prompts import named_rows
from posttrain_jax.data.supervised import SupervisedBatches, TooLong
from posttrain_jax.data.tokenizer import tiny_tokenizer
from posttrain_jax.losses.logprobs import token_logprobs
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.types import InputError


def examples_of(*sizes):
  """Examples with prompts of 2 tokens and the given numbers of learned tokens, all tokens different."""
  examples, start = [], 10
  for size in sizes:
    tokens = np.arange(start, start + 2 + size, dtype=np.int32)
    examples.append((tokens, np.arange(2 + size) >= 2))
    start += 2 + size
  return examples


def test_completion_and_end_token_are_learned_the_prompt_is_not():
  tokenizer = tiny_tokenizer("ab")  # <pad> 0, <eos> 1, a 2, b 3
  ((tokens, mask),) = supervised.encode_completions(named_rows([{"prompt": "ab", "completion": "ba"}], "d"), tokenizer)
  np.testing.assert_array_equal(tokens, [2, 3, 3, 2, 1])
  np.testing.assert_array_equal(mask, [False, False, True, True, True])


def test_an_end_token_spelled_out_in_the_prompt_is_not_learned():
  ((tokens, mask),) = supervised.encode_completions(
    named_rows([{"prompt": "a<eos>", "completion": "b"}], "d"), tiny_tokenizer("ab")
  )
  np.testing.assert_array_equal(tokens, [2, 1, 3, 1])
  np.testing.assert_array_equal(mask, [False, False, True, True])


@pytest.mark.parametrize("row", [{"prompt": "a"}, {"prompt": "a", "completion": 3}, {"completion": "a"}])
def test_rows_without_texts_are_refused(row):
  with pytest.raises(InputError, match=r"row 1: .* expected text"):
    supervised.encode_completions(named_rows([{"prompt": "a", "completion": "b"}, row], "d"), tiny_tokenizer("ab"))


def test_a_limit_on_learned_tokens_cuts_the_end_token_off():
  # Learned tokens 3, 4, 5; limit 4: the last example loses its last token.
  examples, changed = supervised.limit_length(examples_of(3, 4, 5), max_learned=4, too_long=TooLong.CUT)
  assert changed == 1
  assert [len(tokens) for tokens, _ in examples] == [5, 6, 6]
  assert [int(mask.sum()) for _, mask in examples] == [3, 4, 4]


def test_a_limit_on_all_tokens_cuts_or_drops():
  cut, changed = supervised.limit_length(examples_of(3, 4), max_length=5, too_long=TooLong.CUT)
  assert (changed, [len(tokens) for tokens, _ in cut]) == (1, [5, 5])
  dropped, changed = supervised.limit_length(examples_of(3, 4), max_length=5, too_long=TooLong.DROP)
  assert (changed, [len(tokens) for tokens, _ in dropped]) == (1, [5])


def test_examples_over_the_limit_or_left_with_nothing_to_learn_are_refused():
  with pytest.raises(InputError, match="row 1 has 6 tokens, 4 of them to be learned; the limits are 5 and None"):
    supervised.limit_length(examples_of(3, 4), max_length=5, too_long=TooLong.ERROR)
  with pytest.raises(InputError, match="row 0 has no token to be learned in its first 2"):
    supervised.limit_length(examples_of(3), max_length=2, too_long=TooLong.CUT)


def test_packing_takes_the_first_row_with_room():
  # Lengths 6, 5, 4, 5, 3 in rows of 10: 6 | 5; 4 fits behind 6; 5 behind 5; 3 opens a third row.
  assert supervised.pack(examples_of(4, 3, 2, 3, 1), 10) == [[0, 2], [1, 3], [4]]


@pytest.mark.parametrize("packed", [False, True])
def test_every_epoch_has_every_example_once(packed):
  sizes = np.random.default_rng(0).integers(1, 8, 60)
  examples = examples_of(*sizes)
  batches = SupervisedBatches(examples, batch_size=1, seed=0, length=20, packed=packed)
  assert (batches.num_rows < 30) == packed
  learned = sorted(int(token) for tokens, mask in examples for token in tokens[mask])
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
  batch = SupervisedBatches([(np.arange(3), np.ones(3, bool))], batch_size=1, seed=0).batch(0)
  np.testing.assert_array_equal(batch.mask, [[False, True, True]])


def test_packed_examples_have_the_losses_that_they_have_alone():
  config = TransformerConfig(100, num_layers=2, embed_dim=16, mlp_dim=32, num_heads=2, num_kv_heads=1, head_dim=8)
  model = Transformer(config, nnx.Rngs(0))

  def losses(batch):
    hidden = row_hidden(model, batch.tokens, positions=batch.positions, segment_ids=batch.segment_ids)
    logprobs = token_logprobs(hidden[:, :-1], model.unembedding(), jnp.asarray(batch.tokens[:, 1:]), chunk=64)
    mask = batch.mask[:, 1:]
    return dict(zip(batch.tokens[:, 1:][mask].tolist(), np.asarray(logprobs)[mask].tolist()))

  examples = examples_of(3, 5, 2, 4, 1)
  alone = losses(SupervisedBatches(examples, batch_size=5, seed=0).batch(0))
  together = losses(SupervisedBatches(examples, batch_size=1, seed=0, length=32, packed=True).batch(0))
  assert alone.keys() == together.keys() and len(alone) == 15
  for token, loss in alone.items():
    np.testing.assert_allclose(together[token], loss, rtol=1e-5, atol=1e-5)


def test_batches_are_pytrees_of_arrays():
  batch = SupervisedBatches(examples_of(2, 1), batch_size=2, seed=0).batch(0)
  assert [leaf.dtype for leaf in jax.tree.leaves(batch)] == [np.int32, bool, np.int32, np.int32]


def test_no_examples_and_examples_over_the_length_are_refused():
  with pytest.raises(InputError, match="no examples"):
    SupervisedBatches([], batch_size=1, seed=0)
  with pytest.raises(InputError, match="has 5 tokens, the limit is 4"):
    SupervisedBatches(examples_of(3), batch_size=1, seed=0, length=4)
