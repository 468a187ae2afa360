"""Tests the layout of comparisons.

Lengths decide the mask, end tokens are counted or not, and every epoch has every prompt once.
"""

import collections
import json
import pathlib

import jax
import numpy as np
import pytest

from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison, Margins, Strength, read_comparisons
from posttrain_jax.data.prompts import PromptFormat, named_rows
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

TEMPLATES = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "chat_templates.json"

EOS = 1


def comparison(prompt, *answers, ranks=None, **more):
  answers = tuple(np.array(answer, np.int32) for answer in answers)
  return Comparison(tuple(prompt), answers, tuple(range(len(answers))) if ranks is None else ranks, **more)


def numbered(count):
  return [comparison([10 + i], [5, EOS], [6, EOS]) for i in range(count)]


MIXED = [
  comparison([4, 5, 6], [7, EOS], [8, 9, EOS]),
  comparison([4], [9, EOS], [8, EOS], [7, 7, 7, EOS], [EOS], ranks=(1, 0, 1, None)),
]


def one_batch(comparisons, **options):
  options = {"batch_size": 1, "seed": 0} | options
  return next(ComparisonBatches(comparisons, **options).in_order(len(comparisons)))


def test_layout_is_padded_to_the_longest_and_to_the_most_answers():
  batch = one_batch(MIXED, pad_id=3)
  np.testing.assert_array_equal(batch.index, [0, 1])
  np.testing.assert_array_equal(batch.prompts, [[4, 5, 6], [4, 3, 3]])
  np.testing.assert_array_equal(batch.prompt_lengths, [3, 1])
  np.testing.assert_array_equal(batch.lengths, [[2, 3, 0, 0], [2, 2, 4, 1]])
  np.testing.assert_array_equal(batch.answers[0], [[7, 1, 3, 3], [8, 9, 1, 3], [3, 3, 3, 3], [3, 3, 3, 3]])
  np.testing.assert_array_equal(batch.answers[1], [[9, 1, 3, 3], [8, 1, 3, 3], [7, 7, 7, 1], [1, 3, 3, 3]])
  np.testing.assert_array_equal(batch.mask.sum(-1), batch.lengths)
  np.testing.assert_array_equal(batch.mask[1, 0], [True, True, False, False])
  wins = np.zeros((2, 4, 4), bool)
  wins[0, 0, 1] = wins[1, 1, 0] = wins[1, 1, 2] = True  # no tie, nothing missing, nothing that was not judged
  np.testing.assert_array_equal(batch.preferred, wins)
  assert not batch.margins.any()
  dtypes = {field: array.dtype for field, array in vars(batch).items() if array is not None}
  ints = dict.fromkeys(("index", "prompts", "prompt_lengths", "answers", "lengths"), np.int32)
  assert dtypes == ints | {"mask": bool, "preferred": bool, "margins": np.float32}


def test_the_last_real_token_is_the_end_token_also_where_padding_is_the_end_token():
  for pad_id in (EOS, 0):
    batch = one_batch(MIXED, pad_id=pad_id)
    last = np.take_along_axis(batch.answers, np.maximum(batch.lengths - 1, 0)[..., None], axis=-1)[..., 0]
    assert (last[batch.lengths > 0] == EOS).all()
    np.testing.assert_array_equal(batch.lengths, [[2, 3, 0, 0], [2, 2, 4, 1]])
    np.testing.assert_array_equal(batch.mask.sum(-1), batch.lengths)


def test_all_pairs_of_a_prompt_are_one_row():
  batches = ComparisonBatches([comparison([4], *([i, EOS] for i in range(5, 9)))] * 3, batch_size=2, seed=0)
  assert batches.num_rows == 3
  np.testing.assert_array_equal(batches.batch(0).preferred.sum((1, 2)), [6, 6])  # C(4, 2)


def test_ends_need_not_count_and_an_answer_that_was_cut_off_has_none():
  batch = one_batch([comparison([4], [7, 8, EOS], [7, 8, 9], ends=(1, 0))], count_end=False)
  np.testing.assert_array_equal(batch.mask[0], [[True, True, False], [True, True, True]])
  np.testing.assert_array_equal(batch.lengths, [[3, 3]])  # a reward is read at the end token all the same
  with pytest.raises(InputError, match="answer 3 is only its end, which count_end=False does not count"):
    one_batch(MIXED, count_end=False)


def test_headers_and_ends_of_llama_3_are_not_counted():
  if not TEMPLATES.exists():
    pytest.skip(f"reference values are not here: {TEMPLATES}")
  special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "user", "assistant", "\n\n"]
  backend = tiny_tokenizer([*special, *"abc "]).backend
  ids = {token: backend.token_to_id(token) for token in special}
  template = json.loads(TEMPLATES.read_text())["templates"]["llama3"]["source"]
  tokenizer = Tokenizer(
    backend, bos_id=ids["<|begin_of_text|>"], eos_id=ids["<|eot_id|>"], pad_id=ids["<|eot_id|>"], chat_template=template
  )
  row = {"prompt": [{"role": "user", "content": "a"}], "chosen": " b c ", "rejected": "c"}
  limits = {"max_prompt_length": 20, "max_answer_length": 20}
  made, _ = read_comparisons(named_rows([row], "d"), tokenizer, prompt_format=PromptFormat(), **limits)
  whole, words = (one_batch(made, pad_id=tokenizer.pad_id, count_end=count_end) for count_end in (True, False))
  assert tokenizer.decode(whole.prompts[0]).endswith("a<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
  counted = [[tokenizer.decode(b.answers[0, k][b.mask[0, k]]) for k in (0, 1)] for b in (whole, words)]
  assert counted == [["b c<|eot_id|>", "c<|eot_id|>"], ["b c", "c"]]
  last = [whole.answers[0, k, whole.lengths[0, k] - 1] for k in (0, 1)]
  assert last == [tokenizer.eos_id] * 2


def test_margins_follow_the_strength_and_are_never_made_up():
  one = comparison([4], [7, EOS], [8, EOS], ranks=(1, 0), strength=Strength.BETTER, source="f:3")
  np.testing.assert_allclose(one_batch([one], margins=Margins.SMALL).margins[0], [[0, 0], [2 / 3, 0]], rtol=1e-7)
  np.testing.assert_array_equal(one_batch([one], margins=Margins.LARGE).margins[0], [[0, 0], [2, 0]])
  assert not one_batch([one], margins=Margins.NONE).margins.any()
  edited = comparison([4], [9, EOS], [7, EOS], [8, EOS], strength=Strength.BETTER, source="f:4")
  with pytest.raises(InputError, match="f:4: margins are large, but no strength says by how much answer 0 beats"):
    one_batch([one, edited], margins=Margins.LARGE)


@pytest.mark.parametrize("batch_size", [3, 7, 8])
def test_every_epoch_has_every_prompt_once_in_another_order(batch_size):
  batches = ComparisonBatches(numbered(7), batch_size=batch_size, seed=0)
  seen = np.concatenate([batches.batch(step).index for step in range(21)])
  epochs = seen[: 7 * (len(seen) // 7)].reshape(-1, 7)
  assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs[:3]}) == 3


def test_a_run_resumed_at_the_end_of_an_epoch_neither_skips_nor_repeats():
  whole = ComparisonBatches(numbered(7), batch_size=3, seed=1)
  for resumed in (2, 3, 7):  # within the batch over the end of the first epoch, after it, at the end of the third
    again = ComparisonBatches(numbered(7), batch_size=3, seed=1)
    seen = [whole.batch(step).index for step in range(resumed)] + [
      again.batch(step).index for step in range(resumed, 14)
    ]
    assert collections.Counter(np.concatenate(seen).tolist()) == dict.fromkeys(range(7), 6)
  other = ComparisonBatches(numbered(7), batch_size=7, seed=2).batch(0).index
  assert other.tolist() != ComparisonBatches(numbered(7), batch_size=7, seed=1).batch(0).index.tolist()


def test_index_names_the_row_that_everything_in_it_is_from():
  batch = ComparisonBatches(numbered(7), batch_size=5, seed=0).batch(2)
  np.testing.assert_array_equal(batch.prompts[:, 0], 10 + batch.index)


def test_in_order_fills_the_last_batch_with_rows_that_have_no_pair():
  batches = ComparisonBatches(numbered(5), batch_size=2, seed=0)
  made = list(batches.in_order(3))
  assert [batch.index.tolist() for batch in made] == [[0, 1, 2], [3, 4, -1]]
  assert [batch.preferred.any((1, 2)).tolist() for batch in made] == [[True] * 3, [True, True, False]]
  assert (made[1].lengths > 0).all()  # still rows that a model can run
  assert [batch.index.tolist() for batch in batches.in_order(8)] == [[0, 1, 2, 3, 4, -1, -1, -1]]
  assert [batch.index.tolist() for batch in batches.in_order(3)] == [[0, 1, 2], [3, 4, -1]]  # nothing was written over


def test_lengths_may_be_fixed_so_that_other_data_has_the_same_shapes():
  batch = one_batch(numbered(2), prompt_length=4, answer_length=6)
  assert (batch.prompts.shape, batch.answers.shape) == ((2, 4), (2, 2, 6))
  with pytest.raises(InputError, match="a prompt of 1 or an answer of 2 tokens, the limits are 4 and 1"):
    one_batch(numbered(2), prompt_length=4, answer_length=1)


def test_no_comparisons_are_an_error():
  with pytest.raises(InputError, match="0 in batches of 2, expected at least one"):
    ComparisonBatches([], batch_size=2, seed=0)


def test_a_batch_crosses_jit():
  batch = one_batch(MIXED)
  assert int(jax.jit(lambda b: b.lengths.sum())(batch)) == 14


def test_soft_targets_stand_where_an_answer_is_preferred():
  batch = one_batch([comparison([4], [7, EOS], [8, EOS], probability=0.75), *numbered(1)])
  np.testing.assert_array_equal(batch.probabilities, [[[0, 0.75], [0, 0]], [[0, 1], [0, 0]]])
  assert one_batch(numbered(2)).probabilities is None


def test_labels_of_single_answers_stay_with_their_rows():
  singles = [comparison([10 + i], [5 + i, EOS], ranks=(0,), desirable=i % 3 == 0) for i in range(7)]
  batches = ComparisonBatches(singles, batch_size=4, seed=0)
  seen = []
  for step in range(4):
    batch = batches.batch(step)
    assert batch.desirable.dtype == bool and not batch.preferred.any()
    seen += [(int(row[0]) - 10) % 3 == 0 for row in batch.prompts]
    np.testing.assert_array_equal(batch.desirable, seen[-4:])
  assert {True, False} == set(seen)
  assert one_batch(MIXED).desirable is None
