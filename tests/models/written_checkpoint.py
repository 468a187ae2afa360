"""Writes a Hugging Face directory with random weights.

It does so apart from the code under test.
"""

import json

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from posttrain_jax.models.config_json import parse_config
from posttrain_jax.models.transformer import Transformer


def write_checkpoint(directory, data, *, shards=None, dtype=np.float32):
  """Writes a checkpoint with random weights; returns the transformer's parameters that it stands for."""
  config = parse_config(data, directory)
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
