"""Makes a value model of a few thousand parameters, random answers with returns, and learners."""

import jax
import numpy as np

from posttrain_jax.learner.division import Division
from posttrain_jax.learner.value import ValueBatch, ValueObjective
from posttrain_jax.learner.value_learner import ValueLearner
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_optimizer_config
from tests.random_params import random_params

MODEL = TransformerConfig(
  17, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=2, num_kv_heads=1, head_dim=8, scalar_head=True
)
P, G, TP, TC = 4, 2, 5, 6
OBJECTIVE = ValueObjective(clip=0.2, coefficient=0.1)


def make_batch(seed=0):
  rng = np.random.default_rng(seed)
  mask = np.arange(TC) < rng.integers(1, TC + 1, (P, G, 1))
  return ValueBatch(
    prompts=rng.integers(0, 17, (P, TP)).astype(np.int32),
    prompt_lengths=rng.integers(1, TP + 1, P).astype(np.int32),
    answers=rng.integers(0, 17, (P, G, TC)).astype(np.int32),
    mask=mask,
    old_values=rng.normal(size=(P, G, TC)).astype(np.float32),
    returns=rng.normal(size=(P, G, TC)).astype(np.float32),
  )


def make_learner(params=None, *, per_update=2, tokens=32, mesh=None, objective=OBJECTIVE):
  return ValueLearner(
    MODEL,
    objective,
    make_optimizer_config(learning_rate=1e-2, clip_norm=0.0),
    mesh or make_mesh({}, jax.devices()[:1]),
    Division(per_update, tokens),
    max_skipped_updates=3,
    params=random_params(MODEL) if params is None else params,
  )
