"""Tests that packed rows hold every counted token once, with its prompt, and give it back."""

import dataclasses

import numpy as np
import pytest

from posttrain_jax.learner.packing import Packing, answer_lengths, sizes_of
from tests.learner.small_policy import TC, TP, G, P, make_batch

WIDEST = TP - 1 + G * TC  # tokens of the longest prompt with its answers


def holed():
  """Makes answers with holes in the mask, one without a counted token, and one whose last tokens do not count."""
  made = make_batch(1)
  mask = made.mask & (np.random.default_rng(0).random(made.mask.shape) < 0.8)
  mask[1, 1], mask[2, 0] = False, np.arange(TC) < 2
  return dataclasses.replace(made, mask=mask)


def packing_of(batch, tokens, shards=1, **options):
  return Packing(batch, sizes_of(batch, tokens=tokens, shards=shards, **{"whole_answers": False} | options))


@pytest.mark.parametrize(
  ("tokens", "shards", "together"), [(10, 1, False), (25, 2, False), (88, 1, False), (30, 2, True)]
)
def test_every_counted_token_is_predicted_once_after_what_comes_before_it(tokens, shards, together):
  batch = holed()
  packing = packing_of(batch, tokens, shards, together=together)
  rows, found = packing.rows, {}
  for m, r in np.ndindex(*rows.predicting.shape):
    if m >= packing.count:
      assert rows.predicting[m, r] == 0
    for place in range(rows.predicting[m, r]):
      own, start, end = (int(x[m, r, place]) for x in (rows.spans.own, rows.spans.prefix_start, rows.spans.prefix_end))
      assert (rows.spans.own[m, r, start:end] == start).all()  # the prompt sees itself only
      read = (*rows.tokens[m, r, start:end], *rows.tokens[m, r, own : place + 1])
      positions = (*rows.positions[m, r, start:end], *rows.positions[m, r, own : place + 1])
      assert positions == tuple(range(len(read)))
      key = (*map(int, read), int(rows.targets[m, r, place]))
      found[key] = found.get(key, 0) + 1
  expected = {}
  for p, g in np.ndindex(P, G):
    prompt = batch.prompts[p, : batch.prompt_lengths[p]]
    for t in range(np.flatnonzero(batch.mask[p, g]).max(initial=-1) + 1):
      key = (*map(int, prompt), *map(int, batch.answers[p, g, : t + 1]))
      expected[key] = expected.get(key, 0) + 1
  assert found == expected


def test_packing_and_unpacking():
  batch = holed()
  packing = packing_of(batch, 12, 2)
  values = np.random.default_rng(0).normal(size=batch.mask.shape).astype(np.float32)
  mask = packing.pack(batch.mask)
  assert mask.shape == packing.rows.tokens.shape and mask.sum() == batch.mask.sum()
  np.testing.assert_array_equal(packing.unpack(packing.pack(values))[batch.mask], values[batch.mask])
  answer, prompt = np.arange(1, P * G + 1).reshape(P, G), np.arange(1, P + 1)
  for given, shape in (
    (answer, answer[..., None]),
    (answer[..., None], answer[..., None]),
    (prompt, prompt[:, None, None]),
  ):
    found = packing.unpack(packing.pack(given))
    np.testing.assert_array_equal(found[batch.mask], np.broadcast_to(shape, batch.mask.shape)[batch.mask])
    assert packing.pack(given).dtype == given.dtype


def test_the_sizes_depend_on_the_padded_shape_alone():
  long, short = make_batch(), dataclasses.replace(make_batch(), mask=make_batch().mask & (np.arange(TC) < 1))
  assert packing_of(long, 20).sizes == packing_of(short, 20).sizes
  assert packing_of(short, 20).count < packing_of(long, 20).count <= packing_of(long, 20).sizes.micro_batches
  nothing = packing_of(dataclasses.replace(long, mask=np.zeros_like(long.mask)), 20)
  assert nothing.count == 0 and not nothing.rows.predicting.any()


@pytest.mark.parametrize(("tokens", "shards"), [(WIDEST, 1), (2 * WIDEST, 2)])
def test_answers_to_a_prompt_share_a_row_where_a_loss_compares_them(tokens, shards):
  batch = holed()
  packing = packing_of(batch, tokens, shards, together=True)
  count = packing.sizes.groups
  assert packing.sizes.answers == count * G and count == min(P, tokens)
  prompts = packing.pack_groups(np.arange(1, P + 1))
  assert prompts.shape == (packing.sizes.micro_batches, shards, count)
  assert sorted(prompts[prompts > 0]) == list(range(1, P + 1))  # each prompt in one row
  answer = packing.pack(np.arange(P * G).reshape(P, G) + 1)
  seen = set()
  for m, r, place in np.argwhere(answer > 0):
    number = int(packing.rows.answers[m, r, place])
    p, g = divmod(int(answer[m, r, place]) - 1, G)
    assert number % G == g and prompts[m, r, number // G] == p + 1
    seen.add((p, g))
  assert len(seen) == (answer_lengths(batch.mask) > 0).sum()
  lengths = packing.pack_groups(batch.mask.sum(-1))
  assert lengths.shape == (*prompts.shape, G) and lengths.sum() == batch.mask.sum()
  assert not lengths[prompts == 0].any()


def test_the_length_of_an_answer_is_that_up_to_its_last_counted_token():
  mask = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 0, 1]]], bool)
  assert answer_lengths(mask).tolist() == [[0, 1], [2, 3]]
