"""Saves and restores checkpoints: asynchronously, with sha256 manifests, falling back to the newest good step.

A step is finished once it has a manifest (`manifest.py`), never before. Older steps are deleted only after the manifest
of a newer step has been written and read back. `checkpoint_folder.py` says which steps may be deleted and which are set
aside. Nothing is pickled: arrays go through Orbax and TensorStore, the rest is JSON or the caller's own files.

With several processes, all of them call these functions together. Each process writes and reads the shards of its
devices. Process 0 alone writes, verifies and deletes everything else on disk.

The layout under `directory`: `12/state`, `12/extra`, the caller's files in `12/`, and `12.manifest.json`.
"""

import dataclasses
import json
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import nnx

from posttrain_jax.learner import checkpoint_folder, manifest, orbax_output
from posttrain_jax.learner.finite import not_finite
from posttrain_jax.parallel.processes import is_main, on_main
from posttrain_jax.types import InputError, NotFinite

# Each replica of a replicated array writes a slice of it. A separate program cuts out the slice, compiled for every
# shape and replica at the first save. If a slice has fewer bytes than this, one replica writes the whole array.
_LEAST_SLICE = 2**20


@dataclasses.dataclass(frozen=True)
class Restored:
  """Holds the content of a checkpoint.

  Attributes:
    state: the pytree that was saved, with the target's shardings.
    extra: the JSON object saved with it.
    step: the step at which it was saved.
    path: its directory, which has the caller's files. It is there until newer steps are saved.
    notes: one line for each thing that was not as expected: a damaged step, or on `restore` another software or
      machine.
  """

  state: Any
  extra: dict[str, Any]
  step: int
  path: pathlib.Path
  notes: tuple[str, ...] = ()


class Checkpointer:
  """Writes and restores the checkpoints of one run.

  The caller has to hold the run's lock, because leftovers of a killed run are removed.
  """

  def __init__(self, directory: str | pathlib.Path, *, keep: int = 2):
    """Opens or creates a directory of checkpoints.

    Args:
      directory: where the steps are.
      keep: how many of the newest finished steps stay, at least 1. The newest step saved as best stays in addition.
    """
    if keep < 1:
      raise InputError(f"checkpoint.keep: found {keep}, expected at least 1")
    self._directory = pathlib.Path(directory).absolute()
    self._directory.mkdir(parents=True, exist_ok=True)
    self._keep = keep
    on_main(self._tidy_up)
    orbax_output.quieten()
    # Not Orbax's CheckpointManager: it has rules of its own on what is a step, and stumbles over other names.
    self._writer = ocp.AsyncCheckpointer(
      ocp.CompositeCheckpointHandler(state=_state_handler(), extra=ocp.JsonCheckpointHandler())
    )
    self._sealing: threading.Thread | None = None
    self._failure: BaseException | None = None

  def save(
    self,
    step: int,
    state: Any,
    extra: dict[str, Any],
    *,
    files: Mapping[str, Callable[[], bytes]] | None = None,
    best: bool = False,
  ) -> None:
    """Starts saving, and returns as soon as `state` may be donated.

    On accelerators this is once the arrays are on the host. On CPU Orbax writes from the arrays' own buffers. The
    runtime does not let a train step overwrite them in the meantime: it works on a copy and needs that much more
    memory. A step that is already saved is not saved again.

    Args:
      step: the step after which `state` and `extra` were taken; larger than those before.
      state: a pytree of arrays, of any sharding.
      extra: a JSON object: dict with str keys, list, str, bool, int, float, None. Floats come back exactly, NaN and
        infinities included (JSON as Python reads it). Copied before this returns.
      files: name to a function that returns the content of a file in the step's directory. It is called on another
        thread after this has returned, so it must not depend on what changes until then.
      best: True if evaluation says that this is the best step so far.

    Raises:
      TypeError: if `extra` holds something that JSON would change, such as a tuple or an array.
      NotFinite: if a parameter is NaN or infinite. Nothing is saved then.
      Exception: if an earlier save failed in the background: its exception.
    """
    _check_json(extra, "extra")
    self.wait()
    if (name := not_finite(state)) is not None:
      raise NotFinite(f"step {step}: {name} holds NaN or infinity; it is not saved, the last checkpoint is good")
    if not on_main(lambda: self._makes_room(step)):
      return
    arguments = ocp.args.Composite(
      state=ocp.args.PyTreeSave(state, save_args=_layer_by_layer(state)),
      extra=ocp.args.JsonSave(json.loads(json.dumps(extra))),
    )
    self._writer.save(self._directory / str(step), args=arguments)
    if is_main():
      leaves = manifest.describe_leaves(state)
      self._sealing = threading.Thread(
        target=self._seal, args=(step, leaves, dict(files or {}), best), name=f"seal-{step}"
      )
      self._sealing.start()

  def check(self) -> None:
    """Raises the exception of a save that has failed in the background.

    It does not wait for a save that goes on.
    """
    failure, self._failure = self._failure, None
    if failure is not None:
      raise failure

  def wait(self) -> None:
    """Waits until all saves are finished, manifests included.

    Raises:
      Exception: if a save failed in the background: its exception.
    """
    if self._sealing is not None:
      self._sealing.join()
      self._sealing = None
    self.check()
    self._writer.wait_until_finished()

  def restore(self, abstract_state: Any) -> Restored | None:
    """Restores the newest step whose files agree with its manifest.

    Newer steps that fail this check, and steps without a manifest, are renamed to `N.damaged`, so the run can save them
    again. A warning says so. Another warning appears if the step was written by other software or on another machine.

    Args:
      abstract_state: the state as `jax.ShapeDtypeStruct`s with shardings. The mesh may differ from that of the save.

    Returns:
      The checkpoint, or None if no step was ever finished here.

    Raises:
      InputError: if there were steps and all are damaged or have lost their manifests, or if the state has other leaves
        than `abstract_state`.
    """
    self.wait()
    restored = load(self._directory, abstract_state)
    if restored is None:
      return None
    on_main(lambda: self._set_aside(restored.step))
    changes = manifest.changes_of_environment(self._directory, restored.step)
    for change in changes:
      logging.warning("%s", change)
    return dataclasses.replace(restored, notes=restored.notes + changes)

  def close(self) -> None:
    """Waits like `wait`, then releases Orbax's threads."""
    try:
      self.wait()
    finally:
      self._writer.close()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def _seal(self, step: int, leaves: dict[str, str], files: Mapping[str, Callable[[], bytes]], best: bool) -> None:
    """Finishes a step in the background: adds the caller's files, writes the manifest, deletes old steps."""
    try:
      self._writer.wait_until_finished()
      for name, content in files.items():
        (self._directory / str(step) / name).write_bytes(content())
      manifest.seal(self._directory, step, leaves, best=best)
      found = manifest.damage(self._directory, step)
      if found is not None:
        raise OSError(f"checkpoint {self._directory / str(step)} could not be read back: {found}")
      checkpoint_folder.mark_finished(self._directory, step)
      self._delete_old()
    except BaseException as failure:  # handed to the thread that calls `check` or `wait`
      self._failure = failure

  def _delete_old(self) -> None:
    steps = checkpoint_folder.finished_steps(self._directory)
    keep = set(steps[-self._keep :]) | {best_step(self._directory)}
    for step in steps:
      if step not in keep:
        checkpoint_folder.delete(self._directory, step)

  def _makes_room(self, step: int) -> bool:
    """Marks a step that is about to be written; returns False if it is saved already."""
    if step in checkpoint_folder.finished_steps(self._directory):
      return False
    if (self._directory / str(step)).exists() or manifest.manifest_path(self._directory, step).exists():
      aside = checkpoint_folder.set_aside(self._directory, step)
      logging.warning("checkpoint %s: its name was taken; what was there is now %s", self._directory / str(step), aside)
    checkpoint_folder.mark_unfinished(self._directory, step)
    return True

  def _set_aside(self, last: int) -> None:
    """Sets aside the steps after `last`, and those without a manifest."""
    finished = [step for step in checkpoint_folder.finished_steps(self._directory) if step > last]
    for step in finished + checkpoint_folder.lost_steps(self._directory):
      aside = checkpoint_folder.set_aside(self._directory, step)
      logging.warning("checkpoint %s is set aside as %s", self._directory / str(step), aside)

  def _tidy_up(self) -> None:
    """Removes the leftovers of a killed process, and says which names are ignored."""
    for name in checkpoint_folder.remove_unfinished(self._directory):
      logging.warning("removed the unfinished checkpoint %s", self._directory / name)
    ignored = checkpoint_folder.strays(self._directory)
    if ignored:
      logging.warning("checkpoints %s: ignored %s: not a checkpoint", self._directory, ", ".join(ignored))


def _layer_by_layer(state: Any) -> Any:
  """Asks Orbax to store each layer of a stack in chunks of its own.

  A reader of one layer (`stored_params`) would have to decode the whole stack otherwise.
  """

  def one(leaf):
    if not isinstance(leaf, nnx.Variable):
      return ocp.SaveArgs()
    stacked = leaf.get_value().ndim > len(leaf.get_metadata().get("logical_axes", leaf.get_value().shape))
    return leaf.replace(ocp.SaveArgs(shard_axes=(0,) if stacked else ()))

  return jax.tree.map(one, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def _state_handler() -> ocp.PyTreeCheckpointHandler:
  """Makes Orbax's default handler, except that small replicated arrays are not written in slices."""
  arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_LEAST_SLICE)
  return ocp.PyTreeCheckpointHandler(
    type_handler_registry=ocp.type_handlers.create_type_handler_registry(
      (jax.Array, arrays), (np.ndarray, ocp.type_handlers.NumpyHandler())
    )
  )


def load(
  directory: str | pathlib.Path, abstract_state: Any, *, step: int | None = None, partial: bool = False
) -> Restored | None:
  """Restores without changing anything on disk, for evaluation and for reading another run.

  Args:
    directory: the checkpoints of a run, which may still be running.
    abstract_state: the target as `jax.ShapeDtypeStruct`s with shardings.
    step: which step; None: the newest undamaged one.
    partial: True leaves out the leaves that `abstract_state` does not have, as in `{"params": abstract_params}`.

  Returns:
    The checkpoint, or None if there is no finished step.

  Raises:
    InputError: if the step asked for is missing or damaged, if all steps are damaged, if the leaves differ, or if a
      parameter is NaN or infinite.
  """
  directory = pathlib.Path(directory).absolute()
  step, notes = on_main(lambda: checkpoint_folder.choose_step(directory, step))
  if step is None:
    return None
  manifest.check_leaves(directory, step, abstract_state, partial=partial)
  restore_args = ocp.checkpoint_utils.construct_restore_args(abstract_state)
  arguments = ocp.args.Composite(
    state=ocp.args.PyTreeRestore(abstract_state, restore_args=restore_args, partial_restore=partial),
    extra=ocp.args.JsonRestore(),
  )
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
    content = reader.restore(directory / str(step), args=arguments)
  path = directory / str(step)
  if (name := not_finite(content.state)) is not None:
    raise InputError(f"checkpoint {path}: {name} holds NaN or infinity, expected finite numbers")
  return Restored(state=content.state, extra=dict(content.extra), step=step, path=path, notes=tuple(notes))


def best_step(directory: str | pathlib.Path) -> int | None:
  """Returns the newest finished step that was saved as best, or None."""
  directory = pathlib.Path(directory)
  for step in reversed(checkpoint_folder.finished_steps(directory)):
    content = manifest.read(directory, step)
    if content is not None and content["best"]:
      return step
  return None


def _check_json(value: Any, where: str) -> None:
  """Checks that a value comes back from JSON unchanged.

  Raises:
    TypeError: if some part of it does not.
  """
  if isinstance(value, dict):
    for key, item in value.items():
      if not isinstance(key, str):
        raise TypeError(f"{where}: key {key!r} is {type(key).__name__}, expected str")
      _check_json(item, f"{where}.{key}")
  elif isinstance(value, list):
    for index, item in enumerate(value):
      _check_json(item, f"{where}[{index}]")
  elif value is not None and type(value) not in (str, bool, int, float):
    raise TypeError(f"{where}: found {type(value).__name__}, expected dict, list, str, bool, int, float or None")
