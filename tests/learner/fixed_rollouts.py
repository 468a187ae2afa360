"""Trains on fixed rollouts.

As a program, it is one of two processes and saves the results to --output=FILE.npz.
"""

import dataclasses

import jax
import numpy as np
from absl import app, flags

from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.optimizer import make_optimizer
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.state import abstract_like, make_train_state
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel import processes
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from tests.learner.settings import make_correction, make_objective, make_optimizer_config
from tests.random_params import names, random_params

STEPS = 4
CONFIG = TransformerConfig(
  vocab_size=24, num_layers=2, embed_dim=16, mlp_dim=24, num_heads=4, num_kv_heads=2, head_dim=4
)
# A large epsilon keeps steps about proportional to gradients: rounding then stays rounding.
OPTIMIZER = make_optimizer_config(learning_rate=0.1, epsilon=1.0, weight_decay=0.1, clip_norm=0.5)
MESH = dict(data=2, fsdp=2, tensor=2)
PROMPTS, GROUP, PROMPT_LENGTH, LENGTH = 4, 3, 5, 6


def rollouts(step):
  """Makes the rollouts of two updates of four prompts; every call gives the same."""
  rng = np.random.default_rng(step)
  size = (2 * PROMPTS, GROUP, LENGTH)
  lengths = rng.integers(1, LENGTH + 1, size=size[:2])
  return PolicyBatch(
    prompts=rng.integers(0, 24, size=(2 * PROMPTS, PROMPT_LENGTH)).astype(np.int32),
    prompt_lengths=rng.integers(1, PROMPT_LENGTH + 1, size=2 * PROMPTS).astype(np.int32),
    answers=rng.integers(0, 24, size=size).astype(np.int32),
    mask=np.arange(LENGTH) < lengths[..., None],
    advantages=rng.normal(size=(*size[:2], 1)).astype(np.float32),
    sampler_logprobs=-rng.random(size).astype(np.float32) * 4,
  )


def make_learner(mesh, **more):
  return PolicyLearner(
    CONFIG,
    make_objective(correction=make_correction(level="token"), kl_coefficient=0.1, logprob_chunk=5),
    OPTIMIZER,
    mesh,
    Division(PROMPTS, budget=16),
    max_skipped_updates=3,
    seed=0,
    params=random_params(CONFIG),
    **more,
  )


def train(learner):
  """Returns metrics of each of the steps, [STEPS] a name, from the first parameters on."""
  learner.state, _ = make_train_state(
    CONFIG, make_optimizer(OPTIMIZER), learner.mesh, seed=0, params=random_params(CONFIG)
  )
  reference = learner.scorer.freeze(random_params(CONFIG))
  found = []
  for step in range(STEPS):
    batch = rollouts(step)
    batch = dataclasses.replace(batch, reference_logprobs=learner.scorer(reference, batch))
    found.append(learner.train(batch))
  return {name: np.array([metrics[name] for metrics in found]) for name in found[0]}


def results():
  """Trains twice in one layout and returns the results."""
  learner = make_learner(make_mesh(MESH))
  first = train(learner)
  digest = params_sha256(learner.state.params)
  params = processes.fetch(learner.state.params)
  second = train(learner)
  assert params_sha256(learner.state.params) == digest
  assert all((first[name] == second[name]).all() for name in first)

  mesh = processes.local_mesh(learner.mesh)
  abstract = abstract_like(learner.state, learner.shardings).params
  sampler = make_handover(abstract, num_layers=CONFIG.num_layers, dtype=np.float32, mesh=mesh)(learner.state.params)
  return {
    **{f"metric {name}": values for name, values in first.items()},
    **{f"learner {name}": np.asarray(leaf) for name, leaf in names(params).items()},
    **{f"sampler {name}": np.asarray(leaf) for name, leaf in names(sampler).items()},
  }


def main(argv):
  del argv
  with processes.joined(flags.FLAGS.coordinator, flags.FLAGS.processes, flags.FLAGS.process):
    found = results()
    np.savez(f"{flags.FLAGS.output}{jax.process_index()}.npz", **found)


if __name__ == "__main__":
  flags.DEFINE_string("coordinator", None, "HOST:PORT")
  flags.DEFINE_integer("processes", None, "how many")
  flags.DEFINE_integer("process", None, "which")
  flags.DEFINE_string("output", None, "beginning of a file's name")
  app.run(main)
