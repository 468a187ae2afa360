import jax
import numpy as np
import pytest

from posttrain_jax.parallel.mesh import AXES, make_mesh
from posttrain_jax.types import InputError


@pytest.mark.parametrize(
  ("sizes", "shape"),
  [
    ({"data": -1}, (8, 1, 1)),
    ({"fsdp": -1, "tensor": 2}, (1, 4, 2)),
    ({"data": 2, "fsdp": 2, "tensor": -1}, (2, 2, 2)),
    ({"data": 8, "fsdp": -1}, (8, 1, 1)),
    ({"data": 2, "fsdp": 2, "tensor": 2}, (2, 2, 2)),
  ],
)
def test_sizes(sizes, shape):
  mesh = make_mesh(sizes)
  assert mesh.axis_names == AXES and mesh.devices.shape == shape
  assert list(mesh.devices.flat) == jax.devices()


def test_given_devices_keep_their_order():
  devices = jax.devices()[6:1:-2]
  assert list(make_mesh({"tensor": 3}, devices).devices.flat) == devices
  assert make_mesh({}, jax.devices()[:1]).shape == {"data": 1, "fsdp": 1, "tensor": 1}
  assert make_mesh({"fsdp": np.int64(2)}, jax.devices()[:2]).shape["fsdp"] == 2


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ({"model": 8}, "mesh: unknown axis 'model', expected some of data, fsdp, tensor"),
    ({"data": -1, "fsdp": -1}, "at most one -1"),
    ({"data": 0}, "expected positive numbers"),
    ({"data": -2}, "expected positive numbers"),
    ({"data": 3, "fsdp": -1}, "mesh: 8 devices do not divide by 3"),
    ({"data": 4}, "mesh: data=4 x fsdp=1 x tensor=1 needs 4 devices, there are 8"),
    ({"data": 4, "tensor": 4}, "needs 16 devices, there are 8"),
    ({}, "needs 1 devices, there are 8"),
    ({"data": 16, "fsdp": -1}, "8 devices do not divide by 16"),
  ],
)
def test_errors_are_one_line(sizes, message):
  with pytest.raises(InputError, match=message) as error:
    make_mesh(sizes)
  assert "\n" not in str(error.value)
