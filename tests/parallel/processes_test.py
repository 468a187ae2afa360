"""Tests two processes that exchange bytes and arrays, and that nothing changes for one process."""

import jax
import numpy as np
import pytest

from posttrain_jax.parallel import processes
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_sharding
from posttrain_jax.types import InputError
from tests import two_processes


def test_two_processes():
  job = two_processes.start("-m", "tests.parallel.process_checks", devices=4)
  codes, _, errors = two_processes.finish(job)
  assert codes == [0, 0], errors[0][-2000:] + errors[1][-2000:]


def test_one_process_is_the_main_one():
  assert processes.is_main() and not processes.several()
  processes.refuse_several("score")
  assert processes.part_of(7, "slots") == 7
  assert processes.exchange(b"abc") == [b"abc"]


def test_on_one_process_a_function_is_only_called():
  value = object()  # nothing that JSON could hold
  assert processes.on_main(lambda: value) is value

  def refused():
    raise InputError("no good")

  with pytest.raises(InputError, match=r"^no good$"):
    processes.on_main(refused)


def test_on_one_process_arrays_are_put_and_got_as_jax_does():
  mesh = make_mesh(dict(data=4), jax.devices()[:4])
  host, sharding = np.arange(8.0, dtype=np.float32), batch_sharding(mesh)
  assert processes.local_mesh(mesh) is mesh
  placed = processes.place({"a": host}, {"a": sharding})
  assert placed["a"].sharding == sharding
  assert processes.spread(placed, sharding) is placed
  fetched = processes.fetch(placed)["a"]
  assert isinstance(fetched, np.ndarray)
  np.testing.assert_array_equal(fetched, host)


def test_a_part_of_its_own_devices_is_no_copy():
  mesh = make_mesh(dict(data=4), jax.devices()[:4])
  array = jax.device_put(np.arange(8.0, dtype=np.float32), batch_sharding(mesh))
  part = processes.own_part(array, batch_sharding(mesh))
  pointers = [[shard.data.unsafe_buffer_pointer() for shard in each.addressable_shards] for each in (array, part)]
  assert pointers[0] == pointers[1]
