"""Tests which fields of online DPO's config contradict each other."""

import contextlib

import pytest

from configs import tiny_online_dpo
from posttrain_jax.pipelines.online_dpo_parts import OnlineDPOSettings, assemble
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


def settings(**changes):
  config = tiny_online_dpo.get_config()
  config.update_from_flattened_dict(changes)
  return parse(OnlineDPOSettings, config)


def test_pairs_of_an_update():
  assert settings().pairs_per_update == 16


def test_samples_of_another_distribution_are_not_trained_on(tmp_path):
  found = settings(**{"rollout.sampling.top_p": 0.9, "mesh.data": 8})
  with contextlib.ExitStack() as stack, pytest.raises(InputError, match=r"^rollout\.sampling: top_k, top_p and min_p"):
    assemble(found, str(tmp_path / "run"), stack)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rollout.group_size": 1}, "rollout.group_size: 1, expected at least 2"),
    ({"learner.updates_per_step": 5}, "learner.updates_per_step: 5 does not divide rollout.groups = 32"),
    ({"objective.loss": "kto"}, "objective.loss: kto learns from single answers"),
    ({"online.refresh_every": -1}, "online.refresh_every: -1, expected at least 0"),
  ],
)
def test_what_is_refused(changes, message):
  with pytest.raises(InputError) as error:
    settings(**changes)
  assert str(error.value).startswith(message)
