"""Tests that a policy that did not move has ratios of exactly 1, however its programs are compiled."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from posttrain_jax.learner import policy_gradient
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.learner.state import make_train_state
from posttrain_jax.learner.update import Summand, update_program
from posttrain_jax.models.config import Remat
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_correction, make_objective
from tests.learner.small_policy import MODEL, WHOLE, P, make_batch, pack

GSPO = dict(
  surrogate="sequence_clipped_surrogate", clip_low=3e-4, clip_high=4e-4, correction=make_correction(level="off")
)
# Two unrolled layers are one computation, in which XLA may skip the rounding between them.
QUICK = ("bfloat16", Remat.NONE, 2)


@pytest.mark.parametrize(
  ("dtype", "remat", "unroll"),
  [
    QUICK,
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in ((dtype, remat, unroll) for dtype in ("bfloat16", "float32") for remat in Remat for unroll in (1, 2))
      if case != QUICK
    ),
  ],
)
def test_an_update_that_is_not_on_policy_has_ratio_one(dtype, remat, unroll):
  model = dataclasses.replace(MODEL, compute_dtype=dtype, remat=remat, unroll=unroll)
  objective, mesh = make_objective(**GSPO), make_mesh({}, jax.devices()[:1])
  graph, abstract = abstract_transformer(model)
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: rng.normal(1, 0.3, x.shape).astype(np.float32), abstract)
  optimizer = optax.sgd(0.0)  # Adam's compiles longer
  state, shardings = make_train_state(model, optimizer, mesh, seed=0, params=params)
  scorer = logprob_scorer(model, objective, mesh, Division(P, WHOLE // 4))
  loss = policy_gradient.make_loss(graph, objective, on_policy=False)
  summands = lambda batch: [Summand(loss, batch.parts, batch.totals, batch.count)]  # noqa: E731
  update = update_program(summands, optimizer, shardings, scorer.batch_shardings)

  batch = make_batch()
  old = scorer(state.params, batch)
  part = pack(dataclasses.replace(batch, old_logprobs=old), objective, tokens=WHOLE // 4)
  assert part.count > 1
  with jax.set_mesh(mesh):
    _, metrics = update(state, part)
  assert np.unique(old[batch.mask]).size > 10
  assert metrics["ratio/max"] == 1 and metrics["clip/high"] == metrics["clip/low"] == 0
