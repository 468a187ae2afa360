"""Tests that scores of answers keep the prompts' order.

This holds for any cut into updates and micro-batches.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.learner.division import Division
from posttrain_jax.learner.packing import Packing, Packings
from posttrain_jax.learner.scoring import Scorer, logprob_scorer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_objective
from tests.learner.small_policy import TC, WHOLE, G, make_batch
from tests.random_params import graph, names, random_params

SMALL = TransformerConfig(17, num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
PROMPTS = 4


def scores(division, devices=1):
  mesh = make_mesh({"fsdp": devices}, jax.devices()[:devices])
  scorer = logprob_scorer(SMALL, make_objective(temperature=0.7, logprob_chunk=5), mesh, division)
  return scorer(random_params(SMALL), make_batch(prompts=PROMPTS))


@functools.cache
def expected():
  return scores(Division(prompts_per_update=PROMPTS, budget=WHOLE))


@pytest.mark.parametrize(("division", "devices"), [(Division(2, 60), 1), (Division(4, 22), 2), (Division(3, 10), 1)])
def test_scores_do_not_depend_on_the_division(division, devices):
  found = scores(division, devices)
  assert found.shape == (PROMPTS, G, TC)
  mask = make_batch(prompts=PROMPTS).mask
  np.testing.assert_allclose(found[mask], expected()[mask], atol=1e-5)


def test_a_score_is_the_logprob_at_the_sampling_temperature():
  batch, model = make_batch(prompts=PROMPTS), nnx.merge(graph(SMALL), random_params(SMALL))
  row = np.concatenate([batch.prompts[1, : batch.prompt_lengths[1]], batch.answers[1, 2]])
  logits = np.asarray(row_hidden(model, row[None]) @ model.unembedding())[0, batch.prompt_lengths[1] - 1 : -1] / 0.7
  logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  length = batch.mask[1, 2].sum()
  found = expected()[1, 2, :length]
  np.testing.assert_allclose(found, logprobs[np.arange(TC), batch.answers[1, 2]][:length], atol=1e-5)


def test_frozen_parameters_are_a_copy_in_compute_dtype():
  config = dataclasses.replace(SMALL, compute_dtype="bfloat16")
  scorer = Scorer(config, lambda graph, params, rows: rows.tokens, make_mesh({}, jax.devices()[:1]), Division(2, 9))
  params = jax.tree.map(jnp.asarray, random_params(config))
  frozen = scorer.freeze(params)
  for name, leaf in names(frozen).items():
    assert leaf.dtype == config.compute_dtype and not leaf.is_deleted()
    np.testing.assert_array_equal(leaf, names(params)[name].astype(config.compute_dtype))
  jax.tree.map(lambda leaf: leaf.delete(), params)
  assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(frozen))


def test_parts_of_a_batch():
  scorer = Scorer(SMALL, lambda graph, params, rows: rows.tokens, make_mesh({}, jax.devices()[:1]), Division(3, 10))
  batch = make_batch(prompts=PROMPTS)
  parts = list(scorer.split(batch))
  assert [len(part.prompts) for part, _ in parts] == [3, 1]
  np.testing.assert_array_equal(parts[1][0].answers, batch.answers[3:])
  for part, packing in parts:
    np.testing.assert_array_equal(packing.unpack(packing.rows.targets), np.where(part.mask, part.answers, 0))


def test_a_batch_is_packed_once_for_all_that_read_it(monkeypatch):
  made = []
  monkeypatch.setattr("posttrain_jax.learner.packing.Packing", lambda *args: made.append(args) or Packing(*args))
  one, four = (make_mesh({"data": count}, jax.devices()[:count]) for count in (1, 4))
  function = lambda graph, params, rows: rows.tokens  # noqa: E731
  first, second, other = (Scorer(SMALL, function, mesh, Division(2, 10)) for mesh in (one, one, four))
  batch, packings = make_batch(prompts=PROMPTS), Packings()
  expected = [found for _, found in first.split(batch, packings)]
  assert len(made) == 2 and [found for _, found in second.split(batch, packings)] == expected and len(made) == 2
  # In another order, of which the first part is known; on another number of shards.
  order = np.array([0, 1, 3, 2, 2, 3])
  assert [found for _, found in second.split(batch, packings, order)][::2] == expected and len(made) == 3
  parts = list(other.split(batch, packings, order))
  assert len(made) == 6
  for (part, found), rows in zip(parts, ([0, 1], [3, 2], [2, 3])):
    np.testing.assert_array_equal(part.answers, batch.answers[rows])
    np.testing.assert_array_equal(found.unpack(found.rows.targets), np.where(part.mask, part.answers, 0))


def test_micro_batches_that_are_not_in_use_are_not_computed():
  mesh = make_mesh({}, jax.devices()[:1])
  scorer = Scorer(SMALL, lambda graph, params, rows: 1.0 + 0.0 * rows.tokens, mesh, Division(PROMPTS, 10))
  ((_, packing),) = scorer.split(make_batch(prompts=PROMPTS))
  found = np.asarray(scorer.run(random_params(SMALL), packing))
  assert 1 < packing.count < len(found)  # the cap would need more
  assert found[: packing.count].all() and not found[packing.count :].any()
