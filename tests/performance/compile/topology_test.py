"""Tests what is refused, and what libtpu says of a small topology."""

import importlib.util

import pytest

from posttrain_jax.performance.compile import topology
from posttrain_jax.types import InputError

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: launch/README.md"
)


def test_without_libtpu(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(InputError, match=r"--topology=v5e:2x2: libtpu is not installed.*launch/README.md"):
    topology.devices("v5e:2x2")


@needs_libtpu
def test_devices_and_their_memory():
  devices = topology.devices("v5e:2x2")
  assert len(devices) == 4 and {device.platform for device in devices} == {"tpu"}
  assert topology.memory_gib(devices) == 15.75


@needs_libtpu
def test_slices_stand_one_after_the_other():
  assert [device.slice_index for device in topology.devices("v5e:2x2", slices=2)] == [0] * 4 + [1] * 4


@needs_libtpu
@pytest.mark.parametrize("name", ["v5e:3x5x7", "v99:2x2", "v5e", "2x2"])
def test_an_unknown_topology_is_one_line(name):
  with pytest.raises(InputError, match=f"--topology={name}: libtpu knows no such topology"):
    topology.devices(name)


def test_the_compilers_refusals():
  far = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (2.30T) exceeds "
  assert topology.needed_gib(far + "available HBM (95.74G).") == pytest.approx(2.3 * 1024)
  near = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.25G of 15.75G hbm. Exceeded hbm capacity"
  assert topology.needed_gib(near) == 20.25
  assert topology.needed_gib("INTERNAL: something else") is None
