"""Reads single parameters of a checkpoint, layer by layer, without restoring it.

A checkpoint may come from any number of devices. Its arrays are in TensorStore's format, where a read is given the
pieces that it asks for, whichever device wrote them. So the host holds one layer of one parameter at a time.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np
import tensorstore
from flax import nnx

from posttrain_jax.learner import checkpoint_folder, manifest

ReadLayer = Callable[[int | None], np.ndarray]


def open_params(
  directory: pathlib.Path, abstract_params: nnx.State, *, name: str = "params", step: int | None = None
) -> Mapping[tuple[str, ...], ReadLayer] | None:
  """Opens the parameters of a checkpoint, whose files are checked first.

  Args:
    directory: the checkpoints of a run.
    abstract_params: the parameters' shapes and dtypes.
    name: the parameters' name in the checkpoint's state.
    step: which step; None: the newest undamaged one.

  Returns:
    By path in the transformer's state, a function that reads one layer of a stacked parameter, or all of another one,
    which is layer None. None if there is no finished step.

  Raises:
    InputError: as in `checkpoint.load`.
  """
  directory = directory.absolute()
  step, _ = checkpoint_folder.choose_step(directory, step)
  if step is None:
    return None
  manifest.check_leaves(directory, step, {name: abstract_params}, partial=True)
  leaves = jax.tree_util.tree_leaves_with_path(abstract_params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
  paths = [tuple(key.key for key in path) for path, _ in leaves]
  return {path: functools.partial(_read, directory / str(step) / "state", (name, *path, "value")) for path in paths}


def _read(state: pathlib.Path, path: tuple[str, ...], layer: int | None) -> np.ndarray:
  store = {"driver": "ocdbt", "base": f"file://{state}/", "path": ".".join(path) + "/"}
  array = tensorstore.open({"driver": "zarr", "kvstore": store}, open=True, read=True).result()
  return (array if layer is None else array[layer]).read().result()
