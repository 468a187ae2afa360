"""Tests which fields of PPO's config contradict each other, and the layouts of its models."""

import jax
import pytest

from configs import tiny_ppo
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


def settings(**changes):
  config = tiny_ppo.get_config()
  config.update_from_flattened_dict(changes)
  return parse(PPOSettings, config)


def test_a_step_is_divided_into_updates():
  assert settings().division.prompts_per_update == 32


def test_a_model_without_a_layout_of_its_own_has_the_policys():
  found = settings(**{"mesh.data": 2, "mesh.fsdp": 4, "meshes.value.tensor": 8})
  assert dict(found.mesh_of("reference").shape) == dict(data=2, fsdp=4, tensor=1)
  assert dict(found.mesh_of("value").shape) == dict(data=1, fsdp=1, tensor=8)
  with pytest.raises(InputError, match=r"^meshes\.value: mesh: "):
    found.mesh_of("value", jax.devices()[:4])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"average.decay": 1.0}, "average.decay: 1.0, expected 0 (none) to below 1"),
    ({"ptx.coefficient": -1.0}, "ptx.coefficient: -1.0, expected 0 (off) or more"),
    ({"learner.minibatches": 3}, "learner.minibatches: 3 does not divide rollout.groups = 64"),
    ({"eval.best": "heldout_average/avg@8"}, "eval.best: 'heldout_average/avg@8', expected SET/METRIC"),
    (
      {"value.optimizer.schedule": "linear", "value.optimizer.warmup_updates": 5, "steps": 10, "learner.epochs": 3},
      "value.optimizer.decay_updates: 0, expected more than warmup_updates 5 for the linear schedule; "
      "value.optimizer.decay_updates=60 is the end of this run",
    ),
    (
      {"optimizer.schedule": "cosine", "steps": 10, "learner.epochs": 3, "value.pretraining_steps": 2},
      "optimizer.decay_updates: 0, expected more than warmup_updates 5 for the cosine schedule; "
      "optimizer.decay_updates=48 is",
    ),
  ],
)
def test_what_is_refused(changes, message):
  with pytest.raises(InputError) as error:
    settings(**changes)
  assert str(error.value).startswith(message)


def test_the_average_may_decide_which_checkpoint_is_best():
  found = settings(**{"average.decay": 0.9, "eval.best": "heldout_average/avg@8"})
  assert found.eval.best == "heldout_average/avg@8"
