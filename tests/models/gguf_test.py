"""Tests GGUF files: SmolLM2-135M-Instruct as in llama.cpp and transformers, and small files written here."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.models import gguf as gguf_files
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.load import load, resolve
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.types import InputError

GOLDEN = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "smollm2_135m_instruct.json"
NAME = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def gguf():
  return pytest.importorskip("gguf", reason="reading GGUF needs `pip install gguf`")


@pytest.fixture(scope="module")
def golden():
  if not GOLDEN.exists():
    pytest.skip(f"reference values are not here: {GOLDEN}")
  return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def smollm2(gguf):
  try:
    resolve(NAME)
  except InputError as error:
    pytest.skip(str(error))
  return load(NAME)


def test_smollm2_config(smollm2, golden):
  config, params = smollm2
  options = dict(norm_epsilon=1e-5, tied=True, max_position_embeddings=8192)
  assert config == TransformerConfig(49152, 30, 576, 1536, 9, 3, 64, 100_000.0, **options)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == golden["model"]["params"] == config.num_params


def test_smollm2_logprobs_and_greedy(smollm2, golden):
  config, params = smollm2
  cases = golden["cases"][:3]  # the longest is in the slow tests of `evaluation.score`
  rows = [case["ids"] + case["greedy_ids"] for case in cases]
  tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
  for row, ids in zip(tokens, rows, strict=True):
    row[: len(ids)] = ids
  graph = nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]

  @jax.jit
  def logits_of(params, tokens):
    model = nnx.merge(graph, params)
    return row_hidden(model, tokens) @ model.unembedding()

  with jax.default_matmul_precision("highest"):
    logits = np.asarray(logits_of(params, jnp.array(tokens)))
  for case, row in zip(cases, logits, strict=True):
    prompt, greedy = case["ids"], case["greedy_ids"]
    logprobs = np.asarray(jax.nn.log_softmax(row[: len(prompt) - 1]))
    found = np.take_along_axis(logprobs, np.array(prompt)[1:, None], axis=1)[:, 0]
    np.testing.assert_allclose(found, case["logprobs"], atol=2e-4)
    np.testing.assert_allclose(row[len(prompt) - 1][case["top5_ids"]], case["top5_logits"], atol=5e-4)
    # Each token is the best one after those before it, which is what greedy decoding gives.
    np.testing.assert_array_equal(row[len(prompt) - 1 : len(prompt) + len(greedy) - 1].argmax(-1), greedy)


CONFIG = TransformerConfig(7, 2, 12, 10, 3, 1, 4, 5000.0, norm_epsilon=1e-4, tied=False)


def _write(gguf, path, config=CONFIG, *, architecture="llama", leave_out=(), extra=(), keys=()):
  """Writes a GGUF file with random weights; returns the transformer's parameters that it stands for."""
  rng = np.random.default_rng(0)
  params = nnx.to_pure_dict(nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[1])
  params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
  writer = gguf.GGUFWriter(path, architecture)
  writer.add_block_count(config.num_layers)
  writer.add_embedding_length(config.embed_dim)
  writer.add_feed_forward_length(config.mlp_dim)
  writer.add_head_count(config.num_heads)
  writer.add_head_count_kv(config.num_kv_heads)
  writer.add_rope_freq_base(config.rope_theta)
  writer.add_layer_norm_rms_eps(config.norm_epsilon)
  for key, value in dict(keys).items():
    writer.add_uint32(f"llama.{key}", value)
  writer.add_tokenizer_model("gpt2")
  writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])

  def pairs(matrix):
    """Reorders rows of each head from halves (i, i + H / 2) to neighbouring pairs."""
    heads = matrix.reshape(-1, 2, config.head_dim // 2, matrix.shape[-1])
    return np.stack([heads[:, 0], heads[:, 1]], axis=2).reshape(matrix.shape)

  d, tensors = (
    config.embed_dim,
    {"token_embd.weight": params["embed"], "output_norm.weight": params["final_norm"]["scale"]},
  )
  if not config.tied:
    tensors["output.weight"] = params["head"].T
  for i in range(config.num_layers):
    block = jax.tree.map(lambda x: x[i], params["blocks"])  # noqa: B023
    attention, mlp = block["attention"], block["mlp"]
    tensors[f"blk.{i}.attn_norm.weight"] = block["attention_norm"]["scale"]
    tensors[f"blk.{i}.ffn_norm.weight"] = block["mlp_norm"]["scale"]
    tensors[f"blk.{i}.attn_q.weight"] = pairs(attention["query"].reshape(d, -1).T)
    tensors[f"blk.{i}.attn_k.weight"] = pairs(attention["key"].reshape(d, -1).T)
    tensors[f"blk.{i}.attn_v.weight"] = attention["value"].reshape(d, -1).T
    tensors[f"blk.{i}.attn_output.weight"] = attention["out"].reshape(-1, d).T
    for name in ("gate", "up", "down"):
      tensors[f"blk.{i}.ffn_{name}.weight"] = mlp[name].T
  tensors |= dict(extra)
  for name, array in tensors.items():
    if name not in leave_out:
      writer.add_tensor(name, np.ascontiguousarray(array, np.float32))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return params


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_arrives(gguf, tmp_path, tied):
  config = TransformerConfig(7, 2, 12, 10, 3, 1, 4, 5000.0, norm_epsilon=1e-4, tied=tied)
  expected = _write(gguf, tmp_path / "model.gguf", config)
  found, params = load(tmp_path / "model.gguf")
  assert found == config
  jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(params), expected)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"leave_out": ["blk.1.ffn_up.weight"]}, r"tensor 'blk.1.ffn_up.weight' is missing, expected with shape .10, 12."),
    ({"extra": {"rope_freqs.weight": np.ones(2)}}, "tensor 'rope_freqs.weight' has no place"),
    (
      {"extra": {"blk.0.attn_v.weight": np.ones((3, 12))}},
      r"tensor 'blk.0.attn_v.weight' has shape .3, 12., expected .4, 12.",
    ),
    (
      {"extra": {"blk.0.attn_v.weight": np.full((4, 12), np.nan)}},
      "tensor 'blk.0.attn_v.weight' holds NaN or infinity, expected finite numbers",
    ),
    ({"keys": {"expert_count": 8}}, "llama.expert_count is 8, supported is 0"),
    ({"keys": {"rope.dimension_count": 2}}, "llama.rope.dimension_count is 2, supported is 4"),
    ({"keys": {"attention.sliding_window": 64}}, "llama.attention.sliding_window is 64, a key that may change"),
    ({"architecture": "gemma"}, "general.architecture is 'gemma', supported is 'llama'"),
  ],
)
def test_files_that_do_not_fit(gguf, tmp_path, changes, message):
  _write(gguf, tmp_path / "model.gguf", **changes)
  with pytest.raises(InputError, match=f"model.gguf: {message}"):
    load(tmp_path / "model.gguf")


def test_missing_key(gguf, tmp_path):
  writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.close()
  with pytest.raises(InputError, match=r"model.gguf: GGUF key 'llama.embedding_length' is missing"):
    load(tmp_path / "model.gguf")


@pytest.mark.parametrize("cut", [0, 10, 300, -500])
def test_damaged_file(gguf, tmp_path, cut):
  _write(gguf, tmp_path / "whole.gguf")
  (tmp_path / "model.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:cut])
  with pytest.raises(InputError, match=r"model.gguf: not a readable GGUF file") as error:
    load(tmp_path / "model.gguf")
  assert "\n" not in str(error.value)


def test_without_the_package(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "gguf", None)
  (tmp_path / "model.gguf").touch()
  with pytest.raises(InputError, match="pip install gguf"):
    gguf_files.load(tmp_path / "model.gguf")
