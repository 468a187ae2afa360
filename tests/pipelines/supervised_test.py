"""Tests what is read for training on demonstrations, before it starts."""

import jax
import pytest

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.pipelines.supervised import prepare
from posttrain_jax.types import InputError
from tests.pipelines.tiny_warm_up import new_policy, settings


@pytest.fixture(scope="module")
def policy():
  return new_policy()


@pytest.fixture(scope="module")
def mesh():
  return make_mesh({}, jax.devices()[:1])


def test_epochs_become_steps(policy, mesh):
  found, data = prepare(
    settings(steps=0, epochs=2, **{"optimizer.decay_updates": 0, "optimizer.warmup_updates": 0}), policy, mesh, 0
  )
  assert found.steps == found.optimizer.decay_updates == -(-2 * data.batches.num_rows // 32)


def test_a_batch_that_does_not_divide_is_refused(policy):
  with pytest.raises(InputError, match=r"batch_size: 12 rows do not divide .* 8 shards"):
    prepare(settings(batch_size=12), policy, make_mesh({"data": 8}), 0)
