"""Tests how numbers of places become numbers of answers, and which device has which row."""

import jax
import numpy as np

from posttrain_jax.learner.packed_rows import packed_shardings, to_answers, to_sums
from posttrain_jax.learner.packing import Packing, sizes_of
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.packing_test import holed, packing_of
from tests.learner.small_policy import TC, TP, G, P, make_batch


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


def test_sums_over_answers():
  batch = holed()
  packing = packing_of(batch, TP - 1 + G * TC, together=True)
  values = np.random.default_rng(0).normal(size=batch.mask.shape).astype(np.float32)
  packed = np.where(packing.pack(batch.mask), packing.pack(values), 0)
  found = [to_sums(jax.tree.map(lambda x, i=i: x[i], packing.rows), packed[i]) for i in range(packing.count)]
  found = np.stack(found).reshape(packing.count, 1, packing.sizes.groups, G)
  expected = packing.pack_groups(np.where(batch.mask, values, 0).sum(-1))[: packing.count]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  assert np.count_nonzero(expected) == batch.mask.any(-1).sum()


def test_sums_of_long_answers_keep_their_last_digits():
  length = 2**14
  prompts = np.ones((1, 1), np.int32)
  mask = np.ones((1, 1, length), bool)
  batch = type("Long", (), dict(prompts=prompts, prompt_lengths=np.ones(1, int), answers=mask * 1, mask=mask))
  packing = Packing(batch, sizes_of(batch, tokens=length, shards=1, whole_answers=False, together=True))
  values = -np.random.default_rng(0).exponential(size=length).astype(np.float32)
  found = to_sums(jax.tree.map(lambda x: x[0], packing.rows), values[None])
  assert abs(float(found[0, 0]) - values.sum(dtype=np.float64)) < 4e-3  # one after the other: 0.04
