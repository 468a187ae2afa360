"""Runs one program on several processes, each with its own devices.

Usually each host has one process. All processes run the same pipeline with the same config, and their host state is
the same: prompts drawn, groups judged, metrics, the steps of checkpoints and of the end. So they call jitted programs,
and the functions below, in the same order. They differ in what they hold:

  train state and batches    global arrays; a process holds its devices' shards and gives its part of each batch
  answers                    a process draws and judges its share on its own devices; then every process gets all groups
  files of a run             process 0 writes them; the shards of a checkpoint are written by each process

On one process these functions change nothing: `exchange` and `fetch` return what they are given.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, Sharding

from posttrain_jax.parallel.mesh import AXES
from posttrain_jax.types import InputError

_MOST_BYTES = 2**20  # the most bytes of each process that `exchange` puts on the devices at a time
_PATIENCE = 20  # seconds that a failed process waits, at its end, for the others to end too


@contextlib.contextmanager
def joined(
  coordinator: str | None = None,
  count: int | None = None,
  index: int | None = None,
  *,
  together: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
  """Joins the other processes of a job for the length of a `with` block.

  Enter it before anything else uses a device. At the end the processes leave together. If one process fails, it waits a
  short time for the others to fail too. JAX then ends the processes that miss one, and the launcher starts all of them
  again.

  On Cloud TPU, GKE, Slurm and Open MPI, JAX finds the arguments that are left out (`jax.distributed.initialize`).
  Inside the block SIGTERM does not end the process; `runs.preemption` handles it.

  Args:
    coordinator: HOST:PORT at which process 0 listens.
    count: number of processes.
    index: number of this process.
    together: exceptions that are raised on all processes or on none; processes leave together after these too.

  Raises:
    InputError: if an argument is invalid, or is left out and JAX cannot find it.
  """
  try:
    jax.distributed.initialize(coordinator, count, index, shutdown_timeout_seconds=_PATIENCE)
  except ValueError as error:
    raise InputError(
      f"--distributed: {str(error).rstrip('.')}; expected Cloud TPU, GKE or Slurm, or --coordinator, --processes and "
      "--process"
    ) from error
  try:
    yield
  except together:
    on_main(lambda: None)
    raise
  on_main(lambda: None)  # waits for process 0, which may still be writing, so that the others do not time out


def is_main() -> bool:
  """Tells whether this process writes the run's files and prints to the console."""
  return not several() or jax.process_index() == 0


def several() -> bool:
  """Tells whether there are several processes.

  Without `joined` it touches no device, for the sake of programs that only start others.
  """
  return jax.distributed.is_initialized() and jax.process_count() > 1


def refuse_several(what: str) -> None:
  """Raises InputError if there are several processes; `what` names the program that runs on one."""
  if several():
    raise InputError(f"{what} runs on one process, found {jax.process_count()}; start it without --distributed")


def part_of(size: int, name: str) -> int:
  """Returns this process's part of a number that a config gives for all processes.

  Args:
    size: the number for all processes.
    name: the config's field, for the message.

  Raises:
    InputError: if the number of processes does not divide the size.
  """
  if not several():
    return size
  if size % jax.process_count():
    raise InputError(f"{name}: {size} do not divide over {jax.process_count()} processes")
  return size // jax.process_count()


def exchange(content: bytes) -> list[bytes]:
  """Sends each process's bytes to all processes.

  Returns:
    The bytes of every process, in the order of the processes.
  """
  if not several():
    return [content]
  sizes = multihost_utils.process_allgather(np.array(divmod(len(content), 2**16), np.int32))
  lengths = [int(high) * 2**16 + int(low) for high, low in sizes]
  # Each width compiles a program; powers of two keep their number small.
  width = min(_MOST_BYTES, 1 << max(10, (max(lengths) - 1).bit_length()))
  parts: list[list[bytes]] = [[] for _ in lengths]
  for start in range(0, max(lengths), width):
    piece = np.zeros((width,), np.uint8)
    own = np.frombuffer(content[start : start + width], np.uint8)
    piece[: len(own)] = own
    for part, row in zip(parts, multihost_utils.process_allgather(piece)):
      part.append(row.tobytes())
  return [b"".join(part)[:length] for part, length in zip(parts, lengths)]


def on_main(function: Callable[[], Any]) -> Any:
  """Calls a function on process 0 and returns its value on all processes.

  No process returns before the function has returned on process 0.

  Args:
    function: returns a value that JSON can hold.

  Raises:
    InputError: if the function raises it on process 0; all processes then raise it.
  """
  if not several():
    return function()
  outcome: dict[str, Any] = {}
  if is_main():
    try:
      outcome["value"] = function()
    except InputError as error:
      outcome["error"] = str(error)
  outcome = json.loads(exchange(json.dumps(outcome).encode())[0])
  if "error" in outcome:
    raise InputError(outcome["error"])
  return outcome["value"]


def local_mesh(mesh: Mesh) -> Mesh:
  """Returns this process's part of a mesh, for work without the others (sampling).

  Args:
    mesh: a mesh of all processes' devices.

  Returns:
    A mesh of this process's devices with the same `tensor` axis; its other devices are along `data`.

  Raises:
    InputError: if devices along `tensor` belong to several processes.
  """
  if not several():
    return mesh
  rows = mesh.devices.reshape(-1, mesh.shape["tensor"])
  owners = np.array([[device.process_index for device in row] for row in rows])
  if (owners != owners[:, :1]).any():
    raise InputError(
      f"mesh.tensor: {mesh.shape['tensor']} devices, some of them another process's; expected a divisor of "
      f"{jax.local_device_count()}, because every process draws answers on its own devices"
    )
  own = rows[owners[:, 0] == jax.process_index()]
  return Mesh(own[:, None, :], AXES, axis_types=mesh.axis_types)


def place(tree: Any, shardings: Any) -> Any:
  """Puts arrays on devices, like `jax.device_put`, also when the shardings span several processes.

  Args:
    tree: pytree of host arrays or arrays of this process's devices, the same on all processes, or of global arrays.
    shardings: pytree of shardings with the same structure.
  """
  if not several():
    return jax.device_put(tree, shardings)
  return jax.tree.map(_place, tree, shardings)


def spread(batch: Any, shardings: Any) -> Any:
  """Turns a batch into global arrays for a jitted program.

  Every process gives the rows of its own devices.

  Args:
    batch: pytree of host arrays, the same on all processes, or of global arrays.
    shardings: the program's: one sharding of all leaves, or a pytree that begins as the batch does.
  """
  if not several():
    return batch
  spread_one = lambda sharding, part: jax.tree.map(lambda leaf: _place(leaf, sharding), part)  # noqa: E731
  return jax.tree.map(spread_one, shardings, batch)


def _place(leaf: Any, sharding: Sharding) -> jax.Array:
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return jax.device_put(leaf, sharding)
  host = np.asarray(leaf)
  return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def fetch(tree: Any) -> Any:
  """Copies whole arrays to the host of every process.

  Args:
    tree: pytree of arrays, global ones included.

  Returns:
    The same tree of NumPy arrays.
  """
  if not several():
    return jax.device_get(tree)
  return jax.tree.map(
    lambda leaf: np.asarray(leaf) if leaf.is_fully_replicated else multihost_utils.process_allgather(leaf, tiled=True),
    tree,
  )


def own_part(tree: Any, shardings: Any) -> Any:
  """Turns global arrays into arrays of this process's devices, without a copy.

  Args:
    tree: pytree of global arrays; this process's devices hold every part that `shardings` asks of them.
    shardings: pytree of shardings on `local_mesh`.
  """

  def one(leaf, sharding):
    held = {shard.device: shard for shard in leaf.addressable_shards}
    wanted = sharding.devices_indices_map(leaf.shape)
    assert all(held[device].index == index for device, index in wanted.items()), (leaf.sharding, sharding)
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, [held[device].data for device in wanted])

  return jax.tree.map(one, tree, shardings)
