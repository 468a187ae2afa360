"""Makes configs of runs from fixed data, small enough for tests, and checks how they are refused."""

import jax
import ml_collections
import pytest

from posttrain_jax.runs.journal import read_metrics, reproducible
from posttrain_jax.types import InputError

SMALL = {
  "mesh.data": 8,
  "model.num_layers": 1,
  "model.embed_dim": 16,
  "model.mlp_dim": 32,
  "model.num_heads": 2,
  "model.num_kv_heads": 1,
  "model.head_dim": 8,
  "model.unroll": 1,
  "steps": 4,
  "epochs": 0,
  "batch_size": 8,
  "warmup.steps": 0,
  "warmup.epochs": 0,
  "demonstrations.per_difficulty": 5,
  "preferences.per_difficulty": 20,
  "preferences.held_out": 0.3,
  "optimizer.schedule": "constant",
  "optimizer.warmup_updates": 2,
  "optimizer.learning_rate": 1e-2,
  "rewards.workers": 0,
  "eval.every": 2,
  "eval.slots": 32,
  "eval.max_new_tokens": 8,
  "eval.sets.heldout.prompts.per_difficulty": 2,
  "eval.sets.heldout.samples": 2,
  "eval.sets.heldout.greedy": False,
  "checkpoint.every": 2,
  "checkpoint.keep": 2,
  "logging.tensorboard": False,
  "logging.report": False,
}


def small(module, arg="", *, sampled=False, **changes):
  """Makes a small locked config of `module`.

  `sampled` keeps the sets of sampled answers, which compile for seconds.
  """
  config = module.get_config(arg)
  if not sampled and "sets" in config.eval:
    with config.unlocked():
      config.eval.sets = ml_collections.ConfigDict()
  for name, value in {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}.items():
    *groups, field = name.split(".")
    section = config
    for group in groups:
      section = section.get(group, None) if section is not None else None
    if section is not None and field in section:
      section[field] = value
    else:
      assert name in SMALL, name  # else a test would change nothing
  return ml_collections.ConfigDict(config).lock()


def records(workdir):
  return [reproducible(record) for record in read_metrics(workdir)]


_compiles = []
jax.monitoring.register_event_duration_secs_listener(
  lambda event, duration, **_: _compiles.append(event) if event.endswith("backend_compile_duration") else None
)


def refused(train, config, workdir) -> str:
  """Returns the line with which a run is refused, before a directory is made and before any compile."""
  _compiles.clear()
  with pytest.raises(InputError) as error:
    train(config, str(workdir))
  assert "\n" not in str(error.value)
  assert not workdir.exists()
  assert not _compiles
  return str(error.value)
