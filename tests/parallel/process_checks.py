"""Checks `parallel.processes` in one of two processes with four devices each."""

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.sharding import NamedSharding, PartitionSpec

from posttrain_jax.parallel import processes
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_sharding
from posttrain_jax.types import InputError


def refused_by_main():
  if not processes.is_main():
    raise AssertionError("another process than the first was asked")
  raise InputError("no good")


def check_exchange():
  """Checks bytes of all sizes, a function that only process 0 calls, and a mesh that cannot be split."""
  index = jax.process_index()
  assert processes.several() and processes.is_main() == (index == 0)
  for sizes in ((0, 0), (3, 0), (1, 5000), (3 * 2**20 + 1, 7)):
    sent = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    assert processes.exchange(sent[index]) == sent
  assert processes.on_main(lambda: {"a": [index, None, 0.1]}) == {"a": [0, None, 0.1]}
  try:
    processes.on_main(refused_by_main)
  except InputError as error:
    assert str(error) == "no good"
  else:
    raise AssertionError("nothing was raised")
  try:
    processes.local_mesh(make_mesh(dict(tensor=8)))
  except InputError as error:
    assert str(error).startswith("mesh.tensor: 8 devices, some of them another process's")
  else:
    raise AssertionError("nothing was raised")


def message_of(function, *arguments):
  try:
    function(*arguments)
  except InputError as error:
    return str(error)
  raise AssertionError("nothing was raised")


def check_shares():
  assert processes.part_of(6, "slots") == 3
  assert message_of(processes.part_of, 7, "slots") == "slots: 7 do not divide over 2 processes"
  assert message_of(processes.refuse_several, "score") == (
    "score runs on one process, found 2; start it without --distributed"
  )


def check_arrays():
  """Checks host arrays to global ones and back, and the part that a process works on alone."""
  mesh = make_mesh(dict(data=2, fsdp=2, tensor=2))
  host = np.arange(32, dtype=np.float32).reshape(8, 4)
  rows, columns = batch_sharding(mesh), NamedSharding(mesh, PartitionSpec(None, "tensor"))
  placed = processes.place({"a": host, "b": jnp.asarray(host)}, {"a": rows, "b": columns})
  assert placed["a"].sharding == rows and placed["b"].sharding == columns
  own = slice(4 * jax.process_index(), 4 * jax.process_index() + 4)
  assert all(own.start <= shard.index[0].start < own.stop for shard in placed["a"].addressable_shards)
  moved = processes.place(placed["a"], columns)  # from a global array to another
  for leaf in (*processes.fetch(placed).values(), processes.fetch(moved)):
    np.testing.assert_array_equal(leaf, host)

  batch = processes.spread({"a": host}, rows)
  np.testing.assert_array_equal(processes.fetch(jax.jit(lambda batch: batch["a"].sum(1))(batch)), host.sum(1))

  local = processes.local_mesh(mesh)
  assert dict(local.shape) == {"data": 2, "fsdp": 1, "tensor": 2}
  assert sorted(local.devices.flat, key=lambda device: device.id) == jax.local_devices()
  alone = processes.own_part(placed["b"], NamedSharding(local, PartitionSpec(None, "tensor")))
  assert alone.is_fully_addressable
  np.testing.assert_array_equal(alone, host)


def main(argv):
  del argv
  with processes.joined(flags.FLAGS.coordinator, flags.FLAGS.processes, flags.FLAGS.process):
    check_exchange()
    check_shares()
    check_arrays()


if __name__ == "__main__":
  flags.DEFINE_string("coordinator", None, "HOST:PORT")
  flags.DEFINE_integer("processes", None, "how many")
  flags.DEFINE_integer("process", None, "which")
  app.run(main)
