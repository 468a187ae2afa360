"""Makes a policy of a few thousand parameters, random judged answers, and learners that share programs."""

import copy

import jax
import numpy as np

from posttrain_jax.learner.division import Division
from posttrain_jax.learner.packing import Packing, sizes_of
from posttrain_jax.learner.policy_batch import PolicyBatch, pack_policy
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.update import SkippedUpdates
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_objective, make_optimizer_config

MODEL = TransformerConfig(
  vocab_size=17, num_layers=2, embed_dim=16, mlp_dim=32, num_heads=2, num_kv_heads=1, head_dim=8
)
P, G, TP, TC = 4, 3, 5, 6
OPTIMIZER = make_optimizer_config(learning_rate=1e-2)
DEFAULT = make_objective()
CLIPPED = "clipped_surrogate"


def make_batch(seed=0, prompts=P):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, TC + 1, (prompts, G))
  return PolicyBatch(
    prompts=rng.integers(0, 17, (prompts, TP)).astype(np.int32),
    prompt_lengths=rng.integers(1, TP + 1, prompts).astype(np.int32),
    answers=rng.integers(0, 17, (prompts, G, TC)).astype(np.int32),
    mask=np.arange(TC) < lengths[..., None],
    advantages=rng.normal(size=(prompts, G, 1)).astype(np.float32),
    sampler_logprobs=np.full((prompts, G, TC), -2.8, np.float32),
  )


_made, _start = {}, []


WHOLE = P * (TP - 1 + G * TC)  # tokens of an update of greatest length


def pack(batch, objective=DEFAULT, *, tokens=WHOLE, shards=1):
  """Packs an update as `Scorer.split` does."""
  sizes = sizes_of(batch, tokens=tokens, shards=shards, whole_answers=not objective.is_sum_over_tokens)
  return pack_policy(batch, Packing(batch, sizes))


def make_learner(objective=DEFAULT, *, per_update=P, tokens=WHOLE):
  """Makes a learner in its first state; learners of equal settings share their compiled programs."""
  key = (objective, per_update, tokens)
  if key not in _made:
    mesh = make_mesh({}, jax.devices()[:1])
    division = Division(per_update, tokens)
    # Making parameters compiles as long as an update, so one learner does it for all.
    start = _start[0] if _start else None
    made = PolicyLearner(MODEL, objective, OPTIMIZER, mesh, division, seed=0, max_skipped_updates=3, params=start)
    _start.append(jax.device_get(made.state.params))
    _made[key] = made, jax.device_get(made.state)
  made, state = _made[key]
  learner = copy.copy(made)
  learner.state, learner.skipped = jax.device_put(state, made.shardings, may_alias=False), SkippedUpdates(most=3)
  return learner


def host(params):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
