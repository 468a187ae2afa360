"""Tests Hugging Face directories.

Logits are those of transformers, every parameter is in its place, and each fault is one line.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from posttrain_jax.models import heads
from posttrain_jax.models.config_json import parse_config
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.huggingface import read_json
from posttrain_jax.models.load import load
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.types import InputError
from tests.models.config_examples import LLAMA, QWEN2, QWEN3, REWARDS
from tests.models.written_checkpoint import write_checkpoint

GOLDENS = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "hf_tiny"
NAMES = ["llama3", "smollm2", "smollm2_bf16", "qwen2_5", "qwen3", "qwen3_sharded"]


def _logits_of(directory):
  """Computes logits [B, T, V] of tokens [B, T], by the model in a directory."""
  config, params = load(directory)
  graph = nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]

  @jax.jit
  def forward(params, tokens, positions, segment_ids):
    model = nnx.merge(graph, params)
    return row_hidden(model, tokens, positions=positions, segment_ids=segment_ids) @ model.unembedding()

  def logits_of(tokens, positions=None, segment_ids=None):
    rows, length = np.shape(tokens)
    if positions is None:
      positions = np.broadcast_to(np.arange(length), (rows, length))

    def pad(array):  # on the right, where it changes nothing, so that all cases share a compiled program
      return None if array is None else jnp.array(np.pad(array, ((0, 2 - rows), (0, 40 - length))))

    with jax.default_matmul_precision("highest"):
      return np.asarray(forward(params, pad(tokens), pad(positions), pad(segment_ids)))[:rows, :length]

  return logits_of


def _next_token_logprobs(logits, tokens):
  logprobs = np.asarray(jax.nn.log_softmax(logits, axis=-1))
  return np.take_along_axis(logprobs[:-1], np.array(tokens)[1:, None], axis=1)[:, 0]


@pytest.fixture(scope="module", params=NAMES)
def golden(request):
  directory = GOLDENS / request.param
  if not directory.exists():
    pytest.skip(f"reference checkpoints are not here: {directory}")
  return directory, json.loads((directory / "expected.json").read_text()), _logits_of(directory)


def test_right_padded(golden):
  _, expected, logits_of = golden
  case = expected["right_padded"]
  logits = logits_of(case["input_ids"])
  for row, length in enumerate(case["lengths"]):
    np.testing.assert_allclose(logits[row, :length], case["logits"][row], atol=5e-5)
    logprobs = _next_token_logprobs(logits[row, :length], case["input_ids"][row][:length])
    np.testing.assert_allclose(logprobs, case["next_token_logprobs"][row], atol=5e-5)


def test_left_padded(golden):
  _, expected, logits_of = golden
  case = expected["left_padded"]
  mask = np.array(case["attention_mask"])
  logits = logits_of(case["input_ids"], positions=np.array(case["position_ids"]), segment_ids=mask)
  np.testing.assert_allclose(logits[:, -1], case["last_logits"], atol=5e-5)
  for row in range(len(mask)):
    real = mask[row] == 1
    logprobs = _next_token_logprobs(logits[row][real], np.array(case["input_ids"][row])[real])
    np.testing.assert_allclose(logprobs, case["next_token_logprobs"][row], atol=5e-5)


def test_position_gap(golden):
  _, expected, logits_of = golden
  case = expected["position_gap"]
  logits = logits_of([case["input_ids"]], positions=np.array([case["position_ids"]]))[0]
  np.testing.assert_allclose(logits[-1], case["last_logits"], atol=5e-5)
  logprobs = _next_token_logprobs(logits, case["input_ids"])
  np.testing.assert_allclose(logprobs, case["next_token_logprobs"], atol=5e-5)


def test_greedy(golden):
  # Each token is the best one after those before it, which is what greedy decoding gives.
  _, expected, logits_of = golden
  case = expected["greedy"]
  row = case["prompt"] + case["tokens"]
  logits = logits_of([row])[0][len(case["prompt"]) - 1 :]
  np.testing.assert_array_equal(logits.argmax(-1)[:-1], case["tokens"])
  np.testing.assert_allclose(_next_token_logprobs(logits, row[len(case["prompt"]) - 1 :]), case["logprobs"], atol=5e-5)


def test_both_styles_of_config(golden):
  directory, _, _ = golden
  configs = [
    parse_config(read_json(directory / name), directory / name) for name in ("config.json", "config.hub_style.json")
  ]
  assert configs[0] == configs[1]


@pytest.mark.parametrize("padding", ["right_padded", "left_padded"])
def test_rewards(padding):
  directory = GOLDENS / "reward_llama"
  if not directory.exists():
    pytest.skip(f"reference checkpoints are not here: {directory}")
  case = json.loads((directory / "expected.json").read_text())[padding]
  config, params = load(directory)
  model = nnx.merge(nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0], params)
  tokens, mask = np.array(case["input_ids"]), np.array(case["attention_mask"])
  with jax.default_matmul_precision("highest"):
    if padding == "right_padded":
      scores = heads.token_scores(model, row_hidden(model, tokens))
      for row, length in enumerate(case["lengths"]):
        np.testing.assert_allclose(scores[row, :length], case["token_scores"][row], atol=5e-5)
      rewards = heads.row_scores(model, tokens, np.array(case["lengths"]))
    else:
      hidden = row_hidden(model, tokens, positions=np.array(case["position_ids"]), segment_ids=mask)
      rewards = heads.token_scores(model, hidden)[:, -1]
  np.testing.assert_allclose(rewards, case["scores"], atol=5e-5)


def test_both_styles_of_config_of_a_reward_model():
  directory = GOLDENS / "reward_llama"
  if not directory.exists():
    pytest.skip(f"reference checkpoints are not here: {directory}")
  configs = [
    parse_config(read_json(directory / name), directory / name) for name in ("config.json", "config.hub_style.json")
  ]
  assert configs[0] == configs[1] and configs[0].scalar_head


@pytest.mark.parametrize("shards", [None, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize(
  "data", [LLAMA, QWEN2, QWEN3, *REWARDS], ids=["llama", "qwen2", "qwen3", "llama_rm", "qwen2_rm", "qwen3_rm"]
)
def test_every_parameter_arrives(tmp_path, data, dtype, shards):
  expected, _ = write_checkpoint(tmp_path, data, dtype=dtype, shards=shards)
  _, params = load(tmp_path)
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
  jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(params), expected)


def test_logical_axes_are_kept(tmp_path):
  write_checkpoint(tmp_path, LLAMA)
  _, params = load(tmp_path)
  assert params["blocks"]["attention"]["query"].logical_axes == ("embed", "heads", "head_dim")


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "'model.layers.1.mlp.up_proj.weight' is missing"),
    (lambda t: t.pop("lm_head.weight"), "'lm_head.weight' is missing, expected with shape .11, 12."),
    (lambda t: t.update({"model.layers.2.x": np.ones(2)}), r"safetensors: tensor 'model.layers.2.x' has no place"),
    (
      lambda t: t.update({"model.norm.weight": np.ones(5)}),
      r"safetensors: tensor 'model.norm.weight' has shape .5., expected .12.",
    ),
    (
      lambda t: t.update({"model.norm.weight": np.ones(12, np.int8)}),
      "safetensors: tensor 'model.norm.weight' is I8, expected one of",
    ),
    (
      lambda t: t["model.layers.1.mlp.up_proj.weight"].__setitem__((1, 2), np.nan),
      "'model.layers.1.mlp.up_proj.weight' holds NaN or infinity, expected finite numbers",
    ),
    (lambda t: t["lm_head.weight"].__setitem__((0, 0), -np.inf), "'lm_head.weight' holds NaN or infinity"),
  ],
)
def test_tensors_that_do_not_fit(tmp_path, change, message):
  _, tensors = write_checkpoint(tmp_path, LLAMA)
  change(tensors)
  save_file(tensors, tmp_path / "model.safetensors")
  with pytest.raises(InputError, match=message) as error:
    load(tmp_path)
  assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_tensors_that_may_be_there(tmp_path):
  _, tensors = write_checkpoint(tmp_path, QWEN2)
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(2, np.float32)
  save_file(tensors, tmp_path / "model.safetensors")
  load(tmp_path)
  tensors["lm_head.weight"][0, 0] += 1
  save_file(tensors, tmp_path / "model.safetensors")
  with pytest.raises(InputError, match=r"'lm_head.weight' differs from the embeddings"):
    load(tmp_path)


@pytest.mark.parametrize(
  "fault, message",
  [
    (lambda d: (d / "config.json").unlink(), "config.json: no such file"),
    (lambda d: (d / "config.json").write_text('{\n"a": 1,}'), "config.json:2: not JSON"),
    (lambda d: (d / "config.json").write_text("[]"), "config.json: expected a JSON object, found list"),
    (lambda d: (d / "part-1.safetensors").unlink(), "part-1.safetensors: no such file"),
    (lambda d: (d / "part-1.safetensors").write_bytes(b"\x00" * 20), "part-1.safetensors: not a readable safetensors"),
    (lambda d: save_file({"a": np.ones(1)}, d / "part-1.safetensors"), "part-1.safetensors: tensor '.*' is missing"),
    (lambda d: (d / "model.safetensors.index.json").unlink(), "model.safetensors: no such file"),
    (lambda d: (d / "model.safetensors.index.json").write_text("{}"), "expected 'weight_map'"),
    (
      lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b.safetensors"}}'),
      "expected a file in the same directory",
    ),
  ],
)
def test_damaged_directories(tmp_path, fault, message):
  write_checkpoint(tmp_path, LLAMA, shards=3)
  fault(tmp_path)
  with pytest.raises(InputError, match=message) as error:
    load(tmp_path)
  assert "\n" not in str(error.value)


def test_an_adapter_is_not_ignored(tmp_path):
  write_checkpoint(tmp_path, LLAMA)
  (tmp_path / "adapter_config.json").write_text("{}")
  with pytest.raises(InputError, match=r"adapter_config.json: found an adapter \(LoRA\), expected a whole model"):
    load(tmp_path)
  (tmp_path / "config.json").unlink()  # a directory of an adapter alone is told the same
  with pytest.raises(InputError, match=r"adapter_config.json: found an adapter"):
    load(tmp_path)


def test_truncated_weights(tmp_path):
  write_checkpoint(tmp_path, LLAMA)
  file = tmp_path / "model.safetensors"
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(InputError, match=r"model.safetensors: not a readable safetensors file"):
    load(tmp_path)
