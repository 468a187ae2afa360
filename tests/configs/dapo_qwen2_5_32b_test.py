"""Tests the config of the DAPO paper's run.

Its numbers are the paper's, and the loop takes the config on a small model of the family.
"""

import contextlib
import json
import string

import numpy as np
import pytest
from safetensors.numpy import save_file

from configs import dapo_qwen2_5_32b
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.tensors import sources
from posttrain_jax.pipelines.grpo_parts import assemble
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.runs.settings import parse

SIZES = TransformerConfig(
  vocab_size=128,
  num_layers=2,
  embed_dim=16,
  mlp_dim=32,
  num_heads=2,
  num_kv_heads=1,
  head_dim=8,
  qkv_bias=True,
  tied=True,
)
CHAT = "{% for message in messages %}{{ message.content }}\n{% endfor %}"


def qwen(directory):
  """Writes a Qwen2.5 of 2 layers with random parameters."""
  directory.mkdir()
  content = dict(
    architectures=["Qwen2ForCausalLM"],
    model_type="qwen2",
    vocab_size=SIZES.vocab_size,
    num_hidden_layers=SIZES.num_layers,
    hidden_size=SIZES.embed_dim,
    intermediate_size=SIZES.mlp_dim,
    num_attention_heads=SIZES.num_heads,
    num_key_value_heads=SIZES.num_kv_heads,
    rope_theta=1e6,
    rms_norm_eps=1e-6,
    hidden_act="silu",
    tie_word_embeddings=True,
  )
  (directory / "config.json").write_text(json.dumps(content))
  rng, arrays = np.random.default_rng(0), {}
  for path, source in sources(SIZES).items():
    for layer in range(SIZES.num_layers if path[0] == "blocks" else 1):
      arrays[source.name.format(layer=layer)] = rng.normal(size=source.stored).astype(np.float32)
  save_file(arrays, directory / "model.safetensors")
  tiny_tokenizer(string.printable[:95] + "\n", chat_template=CHAT).save(directory)
  return str(directory)


def problems(path, count):
  rows = [{"id": f"p{i}", "problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(count)]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def test_the_papers_numbers():
  config = dapo_qwen2_5_32b.get_config()
  rollout, overlong, objective, optimizer = config.rollout, config.overlong, config.objective, config.optimizer
  assert (rollout.groups, rollout.group_size) == (512, 16) and rollout.sampling.temperature == 1.0
  assert rollout.groups // config.learner.updates_per_step == 32  # prompts an update: 16 updates of 512 answers
  assert (rollout.max_prompt_length, rollout.max_new_tokens, overlong.penalty_buffer) == (2048, 20480, 4096)
  assert (objective.clip_low, objective.clip_high, objective.kl_coefficient) == (0.2, 0.28, 0)
  assert objective.aggregation == "token_mean" and overlong.filter == "off" and config.advantage == "group_normalized"
  assert (optimizer.learning_rate, optimizer.schedule, optimizer.weight_decay) == (1e-6, "constant", 0.1)
  assert optimizer.warmup_updates == 20 * config.learner.updates_per_step and optimizer.clip_norm == 1.0
  sampling = config.dynamic_sampling
  assert sampling.enabled and sampling.max_prompts == 10 * 1536 and sampling.batch_factor * rollout.groups == 1536
  correct = config.rewards.functions.correct
  assert (correct.weight, correct.options.incorrect, correct.options.style) == (1.0, -1.0, "answer_line")
  aime = config.eval.sets.aime2024
  assert (aime.samples, aime.sampling.temperature, aime.sampling.top_p) == (32, 1.0, 0.7)
  assert config.eval.max_new_tokens == 20480 and config.eval.best == "aime2024/avg@32"


def test_sizes():
  large, medium, small = (dapo_qwen2_5_32b.get_config(size) for size in ("32b", "7b", "0.5b"))
  assert [each.model.path for each in (large, medium, small)] == ["Qwen2.5-32B", "Qwen2.5-7B", "Qwen2.5-0.5B"]
  differ = [name for name in large.rollout if medium.rollout[name] != large.rollout[name]]
  assert sorted(differ) == ["cache_tokens", "slots"] and medium.optimizer == large.optimizer
  assert small.overlong.penalty_buffer / small.rollout.max_new_tokens == 0.25
  assert small.dynamic_sampling.max_prompts == 10 * small.dynamic_sampling.batch_factor * small.rollout.groups
  with pytest.raises(ValueError, match="'1b', expected one of 32b, 7b, 0\\.5b"):
    dapo_qwen2_5_32b.get_config("1b")


@pytest.mark.parametrize("size", ["32b", "0.5b"])
def test_the_loop_takes_it(tmp_path, size):
  config = dapo_qwen2_5_32b.get_config(size)
  config.model.path = qwen(tmp_path / "model")
  config.prompts.path = problems(tmp_path / "prompts.jsonl", 40)
  config.eval.sets.aime2024.prompts.path = problems(tmp_path / "aime.jsonl", 30)
  config.mesh = dict(data=1, fsdp=8, tensor=1)
  config.rewards.workers = 0
  with contextlib.ExitStack() as stack:
    parts = assemble(parse(GRPOSettings, config), str(tmp_path / "run"), stack)
    assert (parts.collector.groups, parts.collector.group_size) == (config.rollout.groups, 16)
    assert parts.engine.sizes.max_new_tokens == config.rollout.max_new_tokens
    assert len(parts.evaluator.sets["aime2024"].prompts) == 30
    prompt = parts.evaluator.sets["aime2024"].prompts[4]
    text = parts.policy.tokenizer.decode(prompt.tokens)
    assert "\n\nWhat is 4 + 1?\n\n" in text and text.rstrip().endswith('on its own line after "Answer:".')
