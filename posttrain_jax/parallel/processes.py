"""Several processes that run one program, each with devices of its own: one process a host, as a rule.

All of them run the same pipeline with the same config, and what they know on the host is the same: prompts drawn,
groups judged, metrics, when to save and when to stop. So they call jitted programs, and the functions below, in the
same order. What differs is who holds what:

  train state and batches    global arrays; a process holds the shards of its devices and gives its part of a batch
  answers                    a process draws and judges its share on its own devices; then all of them get all groups
  files of a run             process 0 writes them, and checkpoints, whose shards each process writes

On one process nothing here does anything: `exchange` and `fetch` give back what they are given.
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

_MOST_BYTES = 2**20  # that `exchange` puts on the devices at a time, for each process
_PATIENCE = 20  # seconds that a process which ends, because it failed, waits for the others to end as well


@contextlib.contextmanager
def joined(
  coordinator: str | None = None,
  count: int | None = None,
  index: int | None = None,
  *,
  together: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
  """Joins the other processes of a job, before anything else touches a device; what follows runs in a `with` block.

  Processes leave together. One that fails waits only a while for the others to fail likewise, and leaves them to JAX,
  which ends those who miss one; whoever started them starts all again.

  On Cloud TPU, GKE, Slurm and Open MPI JAX finds out by itself what is left out here (`jax.distributed.initialize`).
  From then on SIGTERM no longer ends the process but is heeded by `runs.preemption`.

  Args:
    coordinator: HOST:PORT at which process 0 listens.
    count: number of processes.
    index: which of them this is.
    together: exceptions that are raised on all processes or on none.

  Raises:
    InputError: something is left out that JAX cannot find, or means nothing.
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
  on_main(lambda: None)  # however long the first still writes, the others' patience is not tried


def is_main() -> bool:
  """Whether this is the process that writes a run's files and speaks to people."""
  return not several() or jax.process_index() == 0


def several() -> bool:
  """Whether there is another process. Takes no device where there is none: some programs only start others."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def refuse_several(what: str) -> None:
  """Raises InputError where there are several processes, for `what` runs on one."""
  if several():
    raise InputError(f"{what} runs on one process, found {jax.process_count()}; start it without --distributed")


def part_of(size: int, name: str) -> int:
  """This process's part of what a config gives for all of them; InputError where it does not divide."""
  if not several():
    return size
  if size % jax.process_count():
    raise InputError(f"{name}: {size} do not divide over {jax.process_count()} processes")
  return size // jax.process_count()


def exchange(content: bytes) -> list[bytes]:
  """What every process gives, in their order; on all of them."""
  if not several():
    return [content]
  sizes = multihost_utils.process_allgather(np.array(divmod(len(content), 2**16), np.int32))
  lengths = [int(high) * 2**16 + int(low) for high, low in sizes]
  # A program for each width: powers of two keep them few.
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
  """Calls a function on process 0 alone; returns on all, and not before it has, what it returned there: JSON.

  Raises:
    InputError: on all processes, where it raised that on process 0.
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
  """The part of a mesh that this process can work on without the others: the sampler's.

  Args:
    mesh: of all processes' devices.

  Returns:
    A mesh of this process's devices with the same `tensor` axis; all else is along `data`.

  Raises:
    InputError: devices along `tensor` belong to several processes.
  """
  if not several():
    return mesh
  rows = mesh.devices.reshape(-1, mesh.shape["tensor"])
  owners = np.array([[device.process_index for device in row] for row in rows])
  if (owners != owners[:, :1]).any():
    raise InputError(
      f"mesh.tensor: {mesh.shape['tensor']} devices, some of them another process's; expected a divisor of "
      f"{jax.local_device_count()}, as every process draws answers on its own devices"
    )
  own = rows[owners[:, 0] == jax.process_index()]
  return Mesh(own[:, None, :], AXES, axis_types=mesh.axis_types)


def place(tree: Any, shardings: Any) -> Any:
  """`jax.device_put`, also from a host's or a process's own arrays, the same on all processes, into global ones."""
  if not several():
    return jax.device_put(tree, shardings)
  return jax.tree.map(_place, tree, shardings)


def spread(batch: Any, sharding: Sharding) -> Any:
  """A batch as a jitted program takes it: every process gives the rows of its own devices.

  Args:
    batch: pytree of host arrays, the same on all processes, or of global arrays.
    sharding: the program's, of all leaves.
  """
  return jax.tree.map(lambda leaf: _place(leaf, sharding), batch) if several() else batch


def _place(leaf: Any, sharding: Sharding) -> jax.Array:
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return jax.device_put(leaf, sharding)
  host = np.asarray(leaf)
  return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def fetch(tree: Any) -> Any:
  """Whole arrays on the host of every process."""
  if not several():
    return jax.device_get(tree)
  return jax.tree.map(
    lambda leaf: np.asarray(leaf) if leaf.is_fully_replicated else multihost_utils.process_allgather(leaf, tiled=True),
    tree,
  )


def own_part(tree: Any, shardings: Any) -> Any:
  """Global arrays as arrays of this process's devices, without a copy.

  Args:
    tree: arrays of which this process's devices hold all that `shardings` say.
    shardings: on `local_mesh`.
  """

  def one(leaf, sharding):
    held = {shard.device: shard for shard in leaf.addressable_shards}
    wanted = sharding.devices_indices_map(leaf.shape)
    assert all(held[device].index == index for device, index in wanted.items()), (leaf.sharding, sharding)
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, [held[device].data for device in wanted])

  return jax.tree.map(one, tree, shardings)
