"""Makes learners of pairs and of single answers under the transformer of `small_pairs`."""

import functools
import math

import jax
import numpy as np

from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_shards
from tests.learner.settings import make_optimizer_config
from tests.learner.small_pairs import CONFIG, WIDEST, packed
from tests.random_params import graph, names, random_params

OPTIMIZER = make_optimizer_config(learning_rate=0.1, epsilon=1.0, weight_decay=0.0, clip_norm=0.5)


def new_learner(make_loss, objective, *, sizes=None, tokens=8 * WIDEST) -> BatchLearner:
  """Makes a learner on a mesh of these sizes, whose micro-batches have so many tokens."""
  mesh = make_mesh(sizes or {}, jax.devices()[: math.prod((sizes or {}).values())])
  return BatchLearner(
    CONFIG,
    make_loss(graph(CONFIG), objective, shards=batch_shards(mesh)),
    functools.partial(packed, tokens=tokens, mesh=mesh),
    OPTIMIZER,
    mesh,
    seed=0,
    max_skipped_updates=5,
    params=random_params(CONFIG),
  )


def assert_same(found, expected):
  """Compares the (metrics, parameters) of two updates, which moved each parameter."""
  for name, value in expected[0].items():
    np.testing.assert_allclose(found[0][name], value, rtol=1e-4, atol=1e-5, err_msg=name)
  before = names(random_params(CONFIG))
  for name, leaf in expected[1].items():
    assert np.abs(np.asarray(leaf) - np.asarray(before[name])).max() > 1e-6, name
    np.testing.assert_allclose(found[1][name], leaf, atol=2e-6, err_msg=name)
