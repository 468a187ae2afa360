"""Saves and restores checkpoints: asynchronously, with sha256 manifests, falling back to the newest good step.

A step is finished once it has a manifest (`manifest.py`), never before. Older steps are deleted only after the manifest
of a newer step has been written and read back. The order of deletion is such that a kill at any moment leaves no step
that looks finished and is not. Nothing is pickled: arrays go through Orbax and TensorStore, the rest is JSON.

With several processes, all of them call these functions together. Each process writes and reads the shards of its
devices. Process 0 alone writes, verifies and deletes everything else on disk.

The layout under `directory`: `12/state`, `12/extra`, `12.manifest.json`; `12.damaged` is a step that failed its check.
"""

import dataclasses
import json
import pathlib
import shutil
import threading
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import nnx

from posttrain_jax.learner import manifest
from posttrain_jax.parallel.processes import is_main, on_main
from posttrain_jax.types import InputError

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
    notes: one line for each thing that was not as expected: a damaged step, or on `restore` another software or
      machine.
  """

  state: Any
  extra: dict[str, Any]
  step: int
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
    on_main(self._remove_unfinished)
    # Orbax has its own rule of which steps are complete, and would delete by it. So it is told to keep everything.
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(max_to_keep=None),
      item_handlers={"state": _state_handler(), "extra": ocp.JsonCheckpointHandler()},
    )
    self._sealing: threading.Thread | None = None
    self._failure: BaseException | None = None

  def save(self, step: int, state: Any, extra: dict[str, Any], *, best: bool = False) -> None:
    """Starts saving, and returns as soon as `state` may be donated.

    On accelerators this is once the arrays are on the host. On CPU Orbax writes from the arrays' own buffers. The
    runtime does not let a train step overwrite them in the meantime: it works on a copy and needs that much more
    memory. A step that is already saved is not saved again.

    Args:
      step: the step after which `state` and `extra` were taken; larger than those before.
      state: a pytree of arrays, of any sharding.
      extra: a JSON object: dict with str keys, list, str, bool, int, float, None. Floats come back exactly, NaN and
        infinities included (JSON as Python reads it). Copied before this returns.
      best: True if evaluation says that this is the best step so far.

    Raises:
      TypeError: if `extra` holds something that JSON would change, such as a tuple or an array.
      Exception: if an earlier save failed in the background: its exception.
    """
    _check_json(extra, "extra")
    self.wait()
    if on_main(lambda: step in manifest.sealed_steps(self._directory)):
      return
    arguments = ocp.args.Composite(
      state=ocp.args.PyTreeSave(state, save_args=_layer_by_layer(state)),
      extra=ocp.args.JsonSave(json.loads(json.dumps(extra))),
    )
    if not self._manager.save(step, args=arguments, force=True):
      raise RuntimeError(f"Orbax declined to save step {step} in {self._directory}")
    if is_main():
      leaves = manifest.describe_leaves(state)
      self._sealing = threading.Thread(target=self._seal, args=(step, leaves, best), name=f"seal-{step}")
      self._sealing.start()

  def wait(self) -> None:
    """Waits until all saves are finished, manifests included.

    Raises:
      Exception: if a save failed in the background: its exception.
    """
    if self._sealing is not None:
      self._sealing.join()
      self._sealing = None
    failure, self._failure = self._failure, None
    if failure is not None:
      raise failure
    self._manager.wait_until_finished()

  def restore(self, abstract_state: Any) -> Restored | None:
    """Restores the newest step whose files agree with its manifest.

    Newer steps that fail this check are renamed to `N.damaged`, so the run can save them again. A warning says so.
    Another warning appears if the step was written by other software or on another machine.

    Args:
      abstract_state: the state as `jax.ShapeDtypeStruct`s with shardings. The mesh may differ from that of the save.

    Returns:
      The checkpoint, or None if no step was ever finished here.

    Raises:
      InputError: if all finished steps are damaged, or the state has other leaves than `abstract_state`.
    """
    self.wait()
    restored = load(self._directory, abstract_state)
    if restored is None:
      return None
    on_main(lambda: self._set_aside_after(restored.step))
    self._manager.reload()
    changes = manifest.changes_of_environment(self._directory, restored.step)
    for change in changes:
      logging.warning("%s", change)
    return dataclasses.replace(restored, notes=restored.notes + changes)

  def close(self) -> None:
    """Waits like `wait`, then releases Orbax's threads."""
    try:
      self.wait()
    finally:
      self._manager.close()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def _seal(self, step: int, leaves: dict[str, str], best: bool) -> None:
    """Finishes a step in the background: writes its manifest, reads it back, deletes old steps."""
    try:
      self._manager.wait_until_finished()
      manifest.seal(self._directory, step, leaves, best=best)
      found = manifest.damage(self._directory, step)
      if found is not None:
        raise OSError(f"checkpoint {self._directory / str(step)} could not be read back: {found}")
      self._delete_old()
    except BaseException as failure:  # handed to the thread that calls `wait`
      self._failure = failure

  def _delete_old(self) -> None:
    steps = manifest.sealed_steps(self._directory)
    keep = set(steps[-self._keep :]) | {best_step(self._directory)}
    for step in steps:
      if step not in keep:
        manifest.manifest_path(self._directory, step).unlink()  # first, so that a half-deleted step is unfinished
        shutil.rmtree(self._directory / str(step))

  def _set_aside_after(self, last: int) -> None:
    """Renames the steps after `last` to `N.damaged`."""
    for step in manifest.sealed_steps(self._directory):
      if step > last:
        manifest.manifest_path(self._directory, step).unlink()
        shutil.rmtree(self._directory / f"{step}.damaged", ignore_errors=True)
        if (self._directory / str(step)).exists():
          (self._directory / str(step)).rename(self._directory / f"{step}.damaged")

  def _remove_unfinished(self) -> None:
    """Removes steps without a manifest and temporary files, the leftovers of a killed process."""
    sealed = manifest.sealed_steps(self._directory)
    for path in list(self._directory.iterdir()):
      if path.name.endswith(".manifest.json.tmp"):
        path.unlink()
      elif ".orbax-checkpoint-tmp" in path.name or (path.name.isdigit() and int(path.name) not in sealed):
        logging.warning("removing the unfinished checkpoint %s", path)
        shutil.rmtree(path)


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
    InputError: if the step asked for is missing or damaged, if all steps are damaged, or if the leaves differ.
  """
  directory = pathlib.Path(directory).absolute()
  step, notes = on_main(lambda: choose_step(directory, step))
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
  return Restored(state=content.state, extra=dict(content.extra), step=step, notes=tuple(notes))


def choose_step(directory: pathlib.Path, step: int | None = None) -> tuple[int | None, list[str]]:
  """Finds the step to read, after a check of its files.

  Args:
    directory: the checkpoints of a run.
    step: which step; None: the newest undamaged one.

  Returns:
    (step, or None if there is no finished one; a line for each thing that was not as expected).

  Raises:
    InputError: if the step asked for is missing or damaged, or if all steps are damaged.
  """
  steps = manifest.sealed_steps(directory)
  if step is not None and step not in steps:
    raise InputError(f"checkpoint {directory}: step {step} is not there, expected one of {steps}")
  return _newest_undamaged(directory, steps if step is None else [step])


def _newest_undamaged(directory: pathlib.Path, steps: list[int]) -> tuple[int | None, list[str]]:
  """Returns the newest undamaged step, and notes on the damaged ones after it.

  The step is None if there are no steps.
  """
  notes = []
  for step in reversed(steps):
    found = manifest.damage(directory, step)
    if found is None:
      notes += [f"fell back to step {step}"] if notes else []
      break
    notes.append(f"checkpoint {directory / str(step)} is damaged: {found}")
  else:
    if notes:
      raise InputError(f"{notes[0]}; no undamaged step is left, expected one of {steps} to agree with its manifest")
    return None, []
  for note in notes:
    logging.warning("%s", note)
  return step, notes


def best_step(directory: str | pathlib.Path) -> int | None:
  """Returns the newest finished step that was saved as best, or None."""
  directory = pathlib.Path(directory)
  for step in reversed(manifest.sealed_steps(directory)):
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
