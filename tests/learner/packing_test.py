"""Tests that packed rows hold every counted token once, with its prompt, and give it back."""

import dataclasses

import jax
import numpy as np
import pytest

from posttrain_jax.learner.packing import Packing, packed_shardings, sizes_of, to_answers
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.small_policy import TC, TP, G, P, make_batch


def holed():
  """Makes answers with holes in the mask, one without a counted token, and one whose last tokens do not count."""
  made = make_batch(1)
  mask = made.mask & (np.random.default_rng(0).random(made.mask.shape) < 0.8)
  mask[1, 1], mask[2, 0] = False, np.arange(TC) < 2
  return dataclasses.replace(made, mask=mask)


def packing_of(batch, tokens, shards=1, whole_answers=False):
  return Packing(batch, sizes_of(batch, tokens=tokens, shards=shards, whole_answers=whole_answers))


@pytest.mark.parametrize(("tokens", "shards"), [(10, 1), (25, 2), (88, 1)])
def test_every_counted_token_is_predicted_once_after_what_comes_before_it(tokens, shards):
  batch = holed()
  packing = packing_of(batch, tokens, shards)
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
  assert nothing.count == 0 and (nothing.rows.spans.own == 20).all()


def test_places_move_to_their_answers():
  batch = holed()
  packing = packing_of(batch, TP - 1 + 3 * TC, whole_answers=True)
  # A row of 22 tokens may have 4 · 22 / 6 answers, but a step has 12.
  assert packing.rows.answer_shape == (12, TC)
  values = np.random.default_rng(0).normal(size=batch.mask.shape).astype(np.float32)
  packed, mask = packing.pack(values), packing.pack(batch.mask)
  found, expected = [], []
  for i in range(packing.count):
    rows = jax.tree.map(lambda x, i=i: x[i], packing.rows)
    of_answers, of_mask = (np.asarray(to_answers(rows, x[i])) for x in (packed, mask))
    found += [tuple(x[m]) for x, m in zip(of_answers[0], of_mask[0]) if m.any()]
  expected = [tuple(values[p, g][batch.mask[p, g]]) for p, g in np.ndindex(P, G) if batch.mask[p, g].any()]
  assert sorted(found) == sorted(expected)


def test_rows_are_split_over_batch_shards():
  mesh = make_mesh(dict(data=2, fsdp=2), jax.devices()[:4])
  shardings, packing = packed_shardings(mesh), packing_of(make_batch(), 20, shards=4)
  placed = jax.device_put(packing.forward().parts.tokens, shardings.parts)
  assert {shard.data.shape for shard in placed.addressable_shards} == {(packing.sizes.micro_batches, 1, 20)}
  assert shardings.count.is_fully_replicated
