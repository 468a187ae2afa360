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

from posttrain_jax.models import heads, huggingface
from posttrain_jax.models.config import RopeScaling, TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.load import load
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.types import InputError

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
    huggingface.parse_config(huggingface.read_json(directory / name), directory / name)
    for name in ("config.json", "config.hub_style.json")
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
    huggingface.parse_config(huggingface.read_json(directory / name), directory / name)
    for name in ("config.json", "config.hub_style.json")
  ]
  assert configs[0] == configs[1] and configs[0].scalar_head


LLAMA = {
  "architectures": ["LlamaForCausalLM"],
  "vocab_size": 11,
  "num_hidden_layers": 2,
  "hidden_size": 12,
  "intermediate_size": 10,
  "num_attention_heads": 3,
  "num_key_value_heads": 1,
}
QWEN2 = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True}
QWEN3 = LLAMA | {"architectures": ["Qwen3ForCausalLM"], "head_dim": 6}
REWARDS = [
  data | {"architectures": [data["architectures"][0].replace("CausalLM", "SequenceClassification")], "num_labels": 1}
  for data in (LLAMA, QWEN2, QWEN3)
]


def _write(directory, data, *, shards=None, dtype=np.float32):
  """Writes a checkpoint with random weights; returns the transformer's parameters that it stands for."""
  config = huggingface.parse_config(data, directory)
  params = nnx.to_pure_dict(nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[1])
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(dtype).astype(np.float32), params)
  d, blocks, tensors = config.embed_dim, params["blocks"], {}
  tensors["model.embed_tokens.weight"] = params["embed"]
  tensors["model.norm.weight"] = params["final_norm"]["scale"]
  if config.scalar_head:
    params["score_bias"] *= 0  # there is none in the file
    tensors["score.weight"] = params["score"][None]
  elif not config.tied:
    tensors["lm_head.weight"] = params["head"].T
  for i in range(config.num_layers):
    block, prefix = jax.tree.map(lambda x: x[i], blocks), f"model.layers.{i}"  # noqa: B023
    attention = block["attention"]
    tensors[f"{prefix}.input_layernorm.weight"] = block["attention_norm"]["scale"]
    tensors[f"{prefix}.post_attention_layernorm.weight"] = block["mlp_norm"]["scale"]
    tensors[f"{prefix}.self_attn.o_proj.weight"] = attention["out"].reshape(-1, d).T
    for name in ("query", "key", "value"):
      tensors[f"{prefix}.self_attn.{name[0]}_proj.weight"] = attention[name].reshape(d, -1).T
      if config.qkv_bias:
        tensors[f"{prefix}.self_attn.{name[0]}_proj.bias"] = attention[f"{name}_bias"].reshape(-1)
    if config.qk_norm:
      tensors[f"{prefix}.self_attn.q_norm.weight"] = attention["query_norm"]["scale"]
      tensors[f"{prefix}.self_attn.k_norm.weight"] = attention["key_norm"]["scale"]
    for name in ("gate", "up", "down"):
      tensors[f"{prefix}.mlp.{name}_proj.weight"] = block["mlp"][name].T
  tensors = {name: np.ascontiguousarray(array, dtype) for name, array in tensors.items()}
  (directory / "config.json").write_text(json.dumps(data))
  if shards is None:
    save_file(tensors, directory / "model.safetensors")
  else:
    weight_map = {name: f"part-{i % shards}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(weight_map.values()):
      save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
  return params, tensors


@pytest.mark.parametrize("shards", [None, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize(
  "data", [LLAMA, QWEN2, QWEN3, *REWARDS], ids=["llama", "qwen2", "qwen3", "llama_rm", "qwen2_rm", "qwen3_rm"]
)
def test_every_parameter_arrives(tmp_path, data, dtype, shards):
  expected, _ = _write(tmp_path, data, dtype=dtype, shards=shards)
  _, params = load(tmp_path)
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
  jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(params), expected)


def test_logical_axes_are_kept(tmp_path):
  _write(tmp_path, LLAMA)
  _, params = load(tmp_path)
  assert params["blocks"]["attention"]["query"].logical_axes == ("embed", "heads", "head_dim")


def test_defaults_of_keys_that_are_left_out():
  expected = TransformerConfig(11, 2, 12, 10, 3, 1, 4, rope_theta=10_000.0, norm_epsilon=1e-6)
  assert huggingface.parse_config(LLAMA, "config.json") == expected
  less = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
  assert huggingface.parse_config(less, "config.json").num_kv_heads == 3
  less = {key: value for key, value in QWEN3.items() if key != "head_dim"}
  assert huggingface.parse_config(less, "config.json").head_dim == 128


@pytest.mark.parametrize(
  "labels, found", [({"num_labels": 2}, 2), ({}, 2), ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3)]
)
def test_a_classifier_of_several_labels_is_no_reward_model(labels, found):
  data = {key: value for key, value in REWARDS[0].items() if key != "num_labels"}
  with pytest.raises(InputError, match=rf"^config.json: num_labels is {found}, expected 1: one score for a text$"):
    huggingface.parse_config(data | labels, "config.json")
  huggingface.parse_config(data | {"id2label": {"0": "LABEL_0"}}, "config.json")


def test_the_context_is_kept():
  config = huggingface.parse_config(LLAMA | {"max_position_embeddings": 512}, "config.json")
  assert config.max_position_embeddings == 512
  with pytest.raises(InputError, match=r"config\.json: max_position_embeddings is '512', expected a positive integer"):
    huggingface.parse_config(LLAMA | {"max_position_embeddings": "512"}, "config.json")


def test_old_spelling_of_rope_type():
  scaling = {
    "type": "llama3",
    "factor": 8,
    "low_freq_factor": 1,
    "high_freq_factor": 4,
    "original_max_position_embeddings": 64,
  }
  config = huggingface.parse_config(LLAMA | {"rope_scaling": scaling, "rope_theta": 5e5}, "config.json")
  assert config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 64)
  assert config.rope_theta == 5e5


@pytest.mark.parametrize(
  "change, message",
  [
    ({"architectures": ["GPT2LMHeadModel"]}, "architectures is .'GPT2LMHeadModel'., expected one of LlamaForCausalLM"),
    ({"architectures": None}, "architectures is"),
    ({"hidden_size": None}, "hidden_size is None"),
    ({"vocab_size": "11"}, "vocab_size is '11'"),
    ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ({"rms_norm_eps": -1}, "rms_norm_eps is -1"),
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu', supported is 'silu'"),
    ({"attention_bias": True}, "attention_bias is True"),
    ({"use_sliding_window": True}, "use_sliding_window is True"),
    ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types is"),
    ({"quantization_config": {"bits": 4}}, "quantization_config is"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope type is 'yarn'"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is None"),
  ],
)
def test_unsupported_configs(change, message):
  with pytest.raises(InputError, match=f"^config.json: {message}"):
    huggingface.parse_config(LLAMA | change, "config.json")


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
  ],
)
def test_tensors_that_do_not_fit(tmp_path, change, message):
  _, tensors = _write(tmp_path, LLAMA)
  change(tensors)
  save_file(tensors, tmp_path / "model.safetensors")
  with pytest.raises(InputError, match=message) as error:
    load(tmp_path)
  assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_tensors_that_may_be_there(tmp_path):
  _, tensors = _write(tmp_path, QWEN2)
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
  _write(tmp_path, LLAMA, shards=3)
  fault(tmp_path)
  with pytest.raises(InputError, match=message) as error:
    load(tmp_path)
  assert "\n" not in str(error.value)


def test_truncated_weights(tmp_path):
  _write(tmp_path, LLAMA)
  file = tmp_path / "model.safetensors"
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(InputError, match=r"model.safetensors: not a readable safetensors file"):
    load(tmp_path)
