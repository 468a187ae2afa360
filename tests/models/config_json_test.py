"""Tests how `config.json` is read in all its forms, refused and written.

It is refused where the model would compute something else.
"""

import json
import pathlib

import pytest

from posttrain_jax.models.config import RopeScaling, TransformerConfig
from posttrain_jax.models.config_json import describe, parse_config
from posttrain_jax.types import InputError
from tests.models.config_examples import LLAMA, PUBLISHED, QWEN2, QWEN3, REWARDS

WHERE = pathlib.Path("config.json")


def test_defaults_of_keys_that_are_left_out():
  expected = TransformerConfig(11, 2, 12, 10, 3, 1, 4, rope_theta=10_000.0, norm_epsilon=1e-6)
  assert parse_config(LLAMA, WHERE) == expected
  less = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
  assert parse_config(less, WHERE).num_kv_heads == 3
  less = {key: value for key, value in QWEN3.items() if key != "head_dim"}
  assert parse_config(less, WHERE).head_dim == 128


@pytest.mark.parametrize(
  "labels, found", [({"num_labels": 2}, 2), ({}, 2), ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3)]
)
def test_a_classifier_of_several_labels_is_no_reward_model(labels, found):
  data = {key: value for key, value in REWARDS[0].items() if key != "num_labels"}
  with pytest.raises(InputError, match=rf"^config.json: num_labels is {found}, expected 1: one score for a text$"):
    parse_config(data | labels, WHERE)
  parse_config(data | {"id2label": {"0": "LABEL_0"}}, WHERE)


def test_old_spelling_of_rope_type():
  scaling = {
    "type": "llama3",
    "factor": 8,
    "low_freq_factor": 1,
    "high_freq_factor": 4,
    "original_max_position_embeddings": 64,
  }
  config = parse_config(LLAMA | {"rope_scaling": scaling, "rope_theta": 5e5}, WHERE)
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
    ({"sliding_window": 4096}, "sliding_window is 4096, supported is no such field"),
    ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false', expected true or false"),
    ({"model_type": "mistral"}, "model_type is 'mistral', but architectures is"),
    ({"auto_map": {"AutoModel": "own.Model"}}, "auto_map is"),
    ({"logits_scaling": 8.0}, "logits_scaling is 8.0, supported is 1.0"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0, a field that is not known and may change"),
    ({"no_rope_layers": [1, 0]}, "no_rope_layers is .1, 0., a field that is not known"),
    ({"is_causal": False}, "is_causal is False, a field that is not known"),
    ({"attention_multiplier": 0.1}, "attention_multiplier is 0.1, a field that is not known"),
    ({"rope_scaling": 2.0}, "rope_scaling is 2.0, expected an object"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope type is 'yarn'"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is None"),
  ],
)
def test_unsupported_configs(change, message):
  with pytest.raises(InputError, match=f"^config.json: {message}"):
    parse_config(LLAMA | change, WHERE)


FULL, SLIDING = {"rope_type": "default", "rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 1e4}


def test_rope_parameters_for_each_kind_of_layer():
  data = QWEN3 | {"rope_parameters": {"sliding_attention": SLIDING, "full_attention": FULL}}
  assert parse_config(data, WHERE).rope_theta == 5e5
  scaled = {**FULL, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
  scaled["original_max_position_embeddings"] = 64
  found = parse_config(QWEN3 | {"rope_parameters": {"full_attention": scaled}}, WHERE)
  assert (found.rope_theta, found.rope_scaling) == (5e5, RopeScaling(8.0, 1.0, 4.0, 64))


@pytest.mark.parametrize(
  "change, message",
  [
    (
      {"rope_parameters": {"sliding_attention": SLIDING}},
      "rope_parameters.full_attention is None, expected the object",
    ),
    (
      {"rope_parameters": {"full_attention": {**FULL, "rope_type": "linear", "factor": 8.0}}},
      "rope type is 'linear', expected 'default' or 'llama3'",
    ),
    (
      {"rope_parameters": {**FULL, "mrope_section": [1, 1]}},
      r"rope_parameters.mrope_section is .1, 1., expected no such field",
    ),
    ({"rope_parameters": {**FULL, "partial_rotary_factor": 0.5}}, "rope_parameters.partial_rotary_factor is 0.5"),
    ({"rope_parameters": FULL, "rope_scaling": SLIDING}, "rope_parameters and rope_scaling differ"),
    ({"rope_parameters": FULL, "rope_theta": 1e4}, "rope_theta is 10000.0, but rope_parameters.rope_theta is 500000.0"),
  ],
)
def test_rope_parameters_that_cannot_be_read(change, message):
  with pytest.raises(InputError, match=f"^config.json: {message}"):
    parse_config(QWEN3 | change, WHERE)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read(name):
  found = parse_config(PUBLISHED[name], WHERE)
  assert found.max_position_embeddings == PUBLISHED[name]["max_position_embeddings"]
  assert found.scalar_head == (name == "reward model")
  assert (found.rope_scaling is not None) == (name in ("llama-3.2", "reward model"))


@pytest.mark.parametrize("data", [LLAMA, QWEN2, QWEN3, *REWARDS, *PUBLISHED.values()])
def test_what_is_written_is_read_as_the_same(data):
  config = parse_config(data, WHERE)
  written = json.loads(json.dumps(describe(config)))
  assert written["architectures"] == data["architectures"]
  assert parse_config(written, WHERE) == config


@pytest.mark.parametrize(
  "sizes, message",
  [
    ({"qkv_bias": True, "qk_norm": True}, "model.qkv_bias and model.qk_norm are both true"),
    ({"embed_dim": 10}, "model.embed_dim is 10, no multiple of num_heads 4"),
  ],
)
def test_what_no_architecture_computes_is_not_written(sizes, message):
  plain = dict(vocab_size=7, num_layers=1, embed_dim=8, mlp_dim=8, num_heads=4, num_kv_heads=2, head_dim=6)
  describe(TransformerConfig(**plain))
  with pytest.raises(InputError, match=message):
    describe(TransformerConfig(**plain | sizes))
