import dataclasses

import jax
import pytest

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.types import InputError
from tests.random_params import random_params

CONFIG = TransformerConfig(
  vocab_size=11, num_layers=3, embed_dim=8, mlp_dim=12, num_heads=4, num_kv_heads=2, head_dim=6
)


@pytest.mark.parametrize(
  "change",
  [
    {},
    {"qkv_bias": True},
    {"qk_norm": True},
    {"tied": True},
    {"num_kv_heads": 4},
    {"scalar_head": True},
    {"scalar_head": True, "tied": True},
  ],
)
@pytest.mark.parametrize("stacked", [True, False])
def test_num_params_is_what_the_model_has(change, stacked):
  config = dataclasses.replace(CONFIG, stacked=stacked, **change)
  assert config.num_params == sum(leaf.size for leaf in jax.tree.leaves(random_params(config)))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"num_heads": 3}, "model.num_heads: 3 is not a multiple of num_kv_heads 2"),
    ({"num_kv_heads": 0}, "model.num_kv_heads: 0, expected at least 1"),
    ({"num_layers": -1}, "model.num_layers: -1, expected at least 1"),
    ({"unroll": 0}, "model.unroll: 0, expected at least 1"),
    ({"head_dim": 5}, "model.head_dim: 5 is odd"),
    ({"compute_dtype": "float16"}, "model.compute_dtype: 'float16', expected 'float32' or 'bfloat16'"),
  ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
  with pytest.raises(InputError, match=message):
    dataclasses.replace(CONFIG, **change)


def test_texts_beyond_the_context_are_refused_unless_allowed():
  config = dataclasses.replace(CONFIG, max_position_embeddings=10)
  config.check_context(10, "prompts")
  with pytest.raises(InputError, match=r"^prompts: 11 tokens are more than the model's context of 10 .*beyond_context"):
    config.check_context(11, "prompts")
  dataclasses.replace(config, beyond_context=True).check_context(11, "prompts")
  CONFIG.check_context(10**9, "prompts")  # a context that is not known
  with pytest.raises(InputError, match=r"model\.max_position_embeddings: 0"):
    dataclasses.replace(CONFIG, max_position_embeddings=0)
