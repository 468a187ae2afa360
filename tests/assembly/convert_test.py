"""Tests that any model leaves as a Hugging Face directory.

If it came from one, the bytes are the same. It is written whole or not at all.
"""

import json
import pathlib
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from posttrain_jax.assembly.convert import convert
from posttrain_jax.assembly.model import Policy, Which, load_model, open_policy, save_description
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner import checkpoint
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.models import export
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.load import load
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import LEARNER_RULES, state_shardings
from posttrain_jax.types import InputError
from tests.models.config_examples import LLAMA, QWEN2, QWEN3, REWARDS
from tests.models.written_checkpoint import write_checkpoint
from tests.random_params import random_params

GOLDENS = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "hf_tiny"
# Sizes that divide over 4 × 2 devices.
EVEN = {
  "vocab_size": 16,
  "hidden_size": 16,
  "intermediate_size": 12,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
}
MODELS = {
  "llama": LLAMA | EVEN,
  "llama_tied_llama3": LLAMA
  | EVEN
  | {
    "tie_word_embeddings": True,
    "max_position_embeddings": 99,
    "rope_scaling": {
      "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 64,
    },
  },
  "qwen2": QWEN2 | EVEN | {"rope_theta": 1e6, "rms_norm_eps": 1e-5},
  "qwen3": QWEN3 | EVEN,
  **{f"reward_{i}": reward | EVEN for i, reward in enumerate(REWARDS)},
}  # fmt: skip
SYMBOLS = "abcdefghijklm"


def weights(directory):
  """Returns every tensor of a directory by name."""
  return {name: array for file in directory.glob("*.safetensors") for name, array in load_file(file).items()}


def assert_same_bytes(found, expected):
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
    assert found[name].tobytes() == array.tobytes(), name


def write_run(workdir, model, params, *, tokenizer=None, mesh=None, **more):
  """Makes a run's workdir with one checkpoint.

  Its parameters may be on several devices.
  """
  tokenizer = tokenizer or tiny_tokenizer(SYMBOLS)
  save_description(Policy(model, tokenizer), workdir)
  if mesh is not None:
    params = jax.device_put(params, state_shardings(params, make_mesh(mesh), LEARNER_RULES))
  with Checkpointer(workdir / "checkpoints") as checkpoints:
    checkpoints.save(1, {"params": params, **more}, {})


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_what_was_imported_leaves_with_the_same_bytes(tmp_path, name, dtype):
  source, output = tmp_path / "source", tmp_path / "output"
  source.mkdir()
  _, tensors = write_checkpoint(source, MODELS[name], dtype=dtype, shards=2)
  written = convert(str(source), output)
  assert_same_bytes(weights(output), tensors)
  assert written["parameters"] == sum(array.size for array in tensors.values())
  assert written["files"] == sorted(path.name for path in output.iterdir())
  assert json.loads((output / "config.json").read_text()) == MODELS[name]


@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_started_from_it_leaves_with_the_same_bytes(tmp_path, name):
  """Through our layout, and a checkpoint that eight devices wrote."""
  source, workdir, output = tmp_path / "source", tmp_path / "run", tmp_path / "output"
  source.mkdir()
  _, tensors = write_checkpoint(source, MODELS[name], dtype=ml_dtypes.bfloat16)
  config, params = load(source)
  write_run(workdir, config, params, mesh={"fsdp": 4, "tensor": 2})
  convert(str(workdir), output, dtype="bfloat16", shard_bytes=1500)
  assert_same_bytes(weights(output), tensors)
  assert len(list(output.glob("model-*.safetensors"))) > 2
  found = json.loads((output / "config.json").read_text())
  for key, value in MODELS[name].items():
    assert found.get(key, "left out") == value or key == "num_labels", key
  assert found["torch_dtype"] == "bfloat16"
  again, same = load(output)
  assert again == config
  jax.tree.map(np.testing.assert_array_equal, same, params)


@pytest.mark.parametrize(
  "name", ["llama3", "smollm2", "smollm2_bf16", "qwen2_5", "qwen3", "qwen3_sharded", "reward_llama"]
)
def test_checkpoints_of_transformers_leave_with_the_same_bytes(tmp_path, name):
  source = GOLDENS / name
  if not source.exists():
    pytest.skip(f"reference checkpoints are not here: {source}")
  convert(str(source), tmp_path / "output")
  assert_same_bytes(weights(tmp_path / "output"), weights(source))
  for file in ("config.json", "generation_config.json"):
    if (source / file).exists():
      assert json.loads((tmp_path / "output" / file).read_text()) == json.loads((source / file).read_text())
  config, params = load(source)
  write_run(tmp_path / "run", config, params)
  convert(str(tmp_path / "run"), tmp_path / "again", dtype="bfloat16" if name == "smollm2_bf16" else None)
  assert_same_bytes(weights(tmp_path / "again"), weights(source))


TINY = TransformerConfig(len(SYMBOLS) + 2, 2, 8, 12, 2, 1, 4)


def test_a_run_keeps_its_tokeniser_and_its_parameters(tmp_path):
  tokenizer = tiny_tokenizer(SYMBOLS, chat_template="{{ messages }}")
  params = random_params(TINY)
  write_run(tmp_path / "run", TINY, params, tokenizer=tokenizer, average=jax.tree.map(lambda x: x + 1, params))
  for which, added in ((None, 0), (Which.AVERAGE, 1)):
    output = tmp_path / f"output{added}"
    files = convert(str(tmp_path / "run"), output, which=which)["files"]
    assert files == [
      "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip
    found = open_policy(str(output))
    assert found.model == TINY and found.tokenizer.digest() == tokenizer.digest()
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + np.float32(added)), found.params, params)  # noqa: B023
  assert found.tokenizer.encode("abcm") == tokenizer.encode("abcm") == [2, 3, 4, 14]
  ids = json.loads((output / "config.json").read_text())
  assert (ids["bos_token_id"], ids["eos_token_id"], ids["pad_token_id"]) == (None, 1, 0)


def test_a_reward_models_constant_is_kept_apart(tmp_path, caplog):
  """Other libraries' classifiers have none, so a field of our own holds it."""
  model = TransformerConfig(len(SYMBOLS) + 2, 2, 8, 12, 2, 1, 4, scalar_head=True)
  params = random_params(model)
  write_run(tmp_path / "run", model, params)
  assert convert(str(tmp_path / "run"), tmp_path / "output")["parameters"] == model.num_params - 1
  content = json.loads((tmp_path / "output" / "config.json").read_text())
  assert np.float32(content["score_bias"]) == np.asarray(params["score_bias"][...]) != 0
  assert content["architectures"] == ["LlamaForSequenceClassification"] and content["id2label"] == {"0": "LABEL_0"}
  config, found = load_model(str(tmp_path / "output"))
  assert config == model
  jax.tree.map(np.testing.assert_array_equal, found, params)


def test_padding_that_may_end_a_text_is_not_named_in_a_classifier(tmp_path):
  """Transformers scores the last token that is not padding. Ours score the last token, also where it is the end."""
  model = TransformerConfig(len(SYMBOLS) + 2, 2, 8, 12, 2, 1, 4, scalar_head=True)
  tokenizer = Tokenizer(tiny_tokenizer(SYMBOLS).backend, eos_id=1, pad_id=1, stop_ids=(1, 0))
  write_run(tmp_path / "run", model, random_params(model), tokenizer=tokenizer)
  convert(str(tmp_path / "run"), tmp_path / "output")
  content = json.loads((tmp_path / "output" / "config.json").read_text())
  assert content["eos_token_id"] == [1, 0] and content["pad_token_id"] is None


def test_files_beside_the_weights_are_taken_along(tmp_path):
  source = tmp_path / "source"
  source.mkdir()
  write_checkpoint(source, LLAMA | {"eos_token_id": 2})
  tiny_tokenizer("abc").save(source)
  (source / "generation_config.json").unlink()
  for name in ("chat_template.jinja", "special_tokens_map.json", "LICENSE", "optimizer.pt"):
    (source / name).write_text("{}" if name.endswith(".json") else name)
  (source / "additional_chat_templates").mkdir()
  (source / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
  files = convert(str(source), tmp_path / "output", dtype="float16")["files"]
  assert files == [
    "LICENSE", "additional_chat_templates/tool_use.jinja", "chat_template.jinja", "config.json",
    "generation_config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
  ]  # fmt: skip
  for name in set(files) - {"config.json", "generation_config.json", "model.safetensors"}:
    assert (tmp_path / "output" / name).read_bytes() == (source / name).read_bytes()
  assert json.loads((tmp_path / "output" / "config.json").read_text())["torch_dtype"] == "float16"
  assert json.loads((tmp_path / "output" / "generation_config.json").read_text()) == {"eos_token_id": 2}


def refused(tmp_path, model, output, **options):
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(InputError) as error:
    convert(str(model), output, **options)
  assert sorted(tmp_path.rglob("*")) == before  # nothing is left, nothing is lost
  assert "\n" not in str(error.value)
  return str(error.value)


def test_a_destination_that_is_not_empty_is_refused(tmp_path):
  source = tmp_path / "source"
  source.mkdir()
  write_checkpoint(source, LLAMA)
  assert refused(tmp_path, source, source).endswith(
    "found a directory that is not empty, expected an empty directory or none"
  )
  (tmp_path / "file").touch()
  assert refused(tmp_path, source, tmp_path / "file").endswith("found a file, expected an empty directory or none")
  assert "cannot be written" in refused(tmp_path, source, tmp_path / "file" / "below")
  (tmp_path / "empty").mkdir()
  convert(str(source), tmp_path / "empty")
  convert(str(source), tmp_path / "new" / "below")
  assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "new", "source"]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
  source = tmp_path / "source"
  source.mkdir()
  write_checkpoint(source, LLAMA)

  def full(path, shard):
    path.write_text("half")
    raise OSError(28, "No space left on device", str(path))

  monkeypatch.setattr(export, "_write_file", full)
  message = refused(tmp_path, source, tmp_path / "output")
  assert message.startswith(f"--output={tmp_path / 'output'}: cannot be written: [Errno 28] No space left on device")


def test_what_the_format_cannot_express_is_refused(tmp_path):
  model = TransformerConfig(len(SYMBOLS) + 2, 2, 8, 12, 2, 1, 4, qkv_bias=True, qk_norm=True)
  write_run(tmp_path / "run", model, random_params(model))
  assert refused(tmp_path, tmp_path / "run", tmp_path / "output").startswith("model.qkv_bias and model.qk_norm")


def test_parameters_that_are_not_finite_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(checkpoint, "not_finite", lambda tree: None)  # as a version without the check wrote it
  params = random_params(TINY)
  params["final_norm"]["scale"] = params["final_norm"]["scale"].replace(np.full(8, np.nan, np.float32))
  write_run(tmp_path / "run", TINY, params)
  message = refused(tmp_path, tmp_path / "run", tmp_path / "output")
  assert (
    message == f"{tmp_path / 'run'}: tensor 'model.norm.weight' has NaN or infinity, expected finite values in float32"
  )


def test_a_choice_of_a_checkpoint_is_for_runs(tmp_path):
  assert refused(tmp_path, tmp_path, tmp_path / "output", which=Which.BEST).startswith("--checkpoint=best: ")


@pytest.mark.slow
def test_a_gguf_file_leaves_whole(tmp_path):
  pytest.importorskip("gguf", reason="reading GGUF needs `pip install gguf`")
  try:
    source = open_policy("smollm2-135m-instruct")
  except InputError as error:
    pytest.skip(str(error))
  convert("smollm2-135m-instruct", tmp_path / "output", shard_bytes=2**28)
  assert len(list(tmp_path.glob("output/model-*.safetensors"))) == 3
  found = open_policy(str(tmp_path / "output"))
  assert found.model == source.model and found.tokenizer.digest() == source.tokenizer.digest()
  jax.tree.map(np.testing.assert_array_equal, found.params, source.params)


_MEASURE = """
import resource, sys
from posttrain_jax.assembly.convert import convert
convert(sys.argv[1], sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(sys.argv[3], sys.argv[4], shard_bytes=2**26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_the_host_never_holds_the_model(tmp_path):
  """Nor a stack of layers: of a run of 400 MB whose largest tensor has 6 MB."""
  sizes = dict(vocab_size=2048, embed_dim=768, mlp_dim=2048, num_heads=12, num_kv_heads=12, head_dim=64, tied=True)
  runs = []
  for layers in (1, 14):
    model = TransformerConfig(num_layers=layers, **sizes)
    write_run(tmp_path / str(layers), model, random_params(model), mesh={"fsdp": 4, "tensor": 2})
    runs += [str(tmp_path / str(layers)), str(tmp_path / f"output{layers}")]
  assert model.num_params * 4 > 4e8
  done = subprocess.run([sys.executable, "-c", _MEASURE, *runs], capture_output=True, text=True, check=True)
  assert int(done.stdout.splitlines()[-1]) * 1024 < 6e7
