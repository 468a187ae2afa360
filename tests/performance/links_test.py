"""Tests the time of collectives against worked examples of https://jax-ml.github.io/scaling-book."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from posttrain_jax.performance.chips import chip_of
from posttrain_jax.performance.links import Axis, axis_of, mesh_axes

V4, V5E, V5P = (chip_of(f"TPU {name}").links for name in ("v4", "v5 lite", "v5"))


def line(count, *, dimension=0, stride=1, dimensions=2):
  places = np.zeros((count, dimensions), int)
  places[:, dimension] = np.arange(count) * stride
  return places.tolist()


def one_slice(coordinates, extents, links):
  return axis_of(coordinates, [0] * len(coordinates), extents, links)


def test_a_gather_over_a_line():
  """Gathers bf16[2048, 8192] over 4 chips of a v5e without a ring: "Sharding", pop quiz 2: 560 us."""
  axis = one_slice(line(4, dimension=1), (8, 4), V5E)
  assert axis.gather_seconds(2 * 2048 * 8192) == pytest.approx(560e-6, rel=0.01)
  assert axis.hops == 3


def test_a_gather_over_a_ring():
  """Gathers over one and two axes of a v4 4x4x4: "Sharding", question 2: 23 us and 46 us."""
  size = 2 * 1024 * 4096
  one = one_slice(line(4, dimensions=3), (4, 4, 4), V4)
  assert one.gather_seconds(size / 4) == pytest.approx(23e-6, rel=0.02)
  plane = [(x, y, 0) for x in range(4) for y in range(4)]
  assert one_slice(plane, (4, 4, 4), V4).gather_seconds(size) == pytest.approx(46e-6, rel=0.02)


def test_a_small_gather_waits_for_its_hops():
  """Gathers 256 bytes over 4 chips of a v4 ring: "Sharding", question 3: 2 us. An all-reduce takes twice as long."""
  ring = one_slice(line(4, dimensions=3), (4, 4, 4), V4)
  assert ring.gather_seconds(256) == pytest.approx(2e-6)
  assert ring.reduce_seconds(256, count=3) == pytest.approx(3 * 4e-6)
  assert ring.gather_seconds(256, count=0) == 0


def test_groups_that_lie_in_between_share_a_link():
  """Two chips at x = 0 and 4 of a line of 8: three other groups use the same link in the middle."""
  near = one_slice(line(2), (8, 8), V5E)
  far = one_slice(line(2, stride=4), (8, 8), V5E)
  assert near.bytes_per_second == 4 * far.bytes_per_second == 2 * V5E.bytes_per_second
  assert (near.hops, far.hops) == (1, 4)
  # 4 chips, 4 apart, go round a ring of 16.
  ring = one_slice(line(4, stride=4), (16, 16), V5E)
  assert ring.bytes_per_second == V5E.bytes_per_second * 2 / 4


def test_slices_are_joined_by_the_network():
  """Compares with "Training": a v5p needs 75,000 tokens a chip where the network joins slices (C / W)."""
  axis = axis_of(line(2, stride=0, dimensions=3), [0, 1], (4, 4, 4), V5P)
  assert chip_of("TPU v5").flops_per_second / axis.bytes_per_second == pytest.approx(75_000, rel=0.03)
  # With 4 chips of each slice in the group, a chip fetches a quarter and shares it over the ring.
  both = axis_of(line(4, dimensions=3) * 2, [0] * 4 + [1] * 4, (4, 4, 4), V5P)
  assert 1 / both.bytes_per_second == pytest.approx(1 / (2 * 9e10) + 1 / (4 * 6.25e9))


@dataclasses.dataclass(frozen=True)
class Device:
  """Stands for a TPU."""

  id: int
  coords: tuple[int, ...]


def test_the_axes_of_a_mesh():
  """On v5p:4x4x8, 4 consecutive chips are a ring along x, and the others lie along y and z: 2 axes, 4 links."""
  devices = [Device(i, (i % 4, i // 4 % 4, i // 16)) for i in range(128)]
  array = np.empty(128, object)
  array[:] = devices
  mesh = type("FakeMesh", (), dict(devices=array.reshape(1, 32, 4), axis_names=("data", "fsdp", "tensor"), size=128))
  axes = mesh_axes(mesh, chip_of("TPU v5"))
  assert axes["data"] == Axis(1)
  assert axes["fsdp"] == Axis(32, 4 * 9e10, 2 + 4) and axes["tensor"] == Axis(4, 2 * 9e10, 2)


def test_links_that_are_not_known():
  mesh = Mesh(np.asarray(jax.devices()[:2]).reshape(1, 2), ("data", "fsdp"))
  assert mesh_axes(mesh, chip_of("NVIDIA H100 80GB HBM3")) is None
  assert mesh_axes(mesh, chip_of("TPU v5")) is None  # the devices have no coordinates
  alone = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"))
  assert mesh_axes(alone, chip_of("NVIDIA H100 80GB HBM3")) == {"data": Axis(1), "fsdp": Axis(1)}
