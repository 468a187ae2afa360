"""Tests the bytes that two ways of reading pages take, by hand, and with libtpu what the compiler says."""

import importlib.util

import pytest

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.compile.page_reads import Decoding, compare
from posttrain_jax.types import InputError

SIZES = dict(vocab_size=512, num_layers=3, embed_dim=64, mlp_dim=64, compute_dtype="bfloat16")
MODEL = TransformerConfig(**SIZES, num_heads=8, num_kv_heads=4, head_dim=128)


def test_a_prompt_is_read_once_or_once_an_answer():
  """Reads prompts of 4 pages (100 tokens) and answers of 2 (33 tokens), which together have 5 (133 tokens)."""
  decoding = Decoding(MODEL, slots=8, group=4, prompt_length=100, answer_length=33, tensor=2)
  page = 32 * 2 * 2 * 128 * 2  # tokens, keys and values, heads of a chip, numbers, bytes
  assert decoding.read_bytes(by_sequence=False) == 3 * page * (2 * 4 + 8 * 2)
  assert decoding.read_bytes(by_sequence=True) == 3 * page * 8 * 5


def test_jax_pads_heads_of_64():
  small = TransformerConfig(**SIZES, num_heads=8, num_kv_heads=4, head_dim=64)
  wide, narrow = (Decoding(model, slots=2, group=1, prompt_length=32, answer_length=32) for model in (MODEL, small))
  assert narrow.read_bytes(by_sequence=False) * 2 == wide.read_bytes(by_sequence=False)
  assert narrow.read_bytes(by_sequence=True) == wide.read_bytes(by_sequence=True)


@pytest.mark.parametrize(("group", "tensor", "message"), [(3, 1, "--slots=8"), (4, 3, "--tensor=3")])
def test_what_does_not_divide_is_one_line(group, tensor, message):
  with pytest.raises(InputError, match=message):
    Decoding(MODEL, slots=8, group=group, prompt_length=1, answer_length=1, tensor=tensor)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: launch/README.md")
def test_both_compile_without_copying_the_cache():
  found = compare(Decoding(MODEL, slots=8, group=4, prompt_length=100, answer_length=100), "v5e:2x2")
  for name in ("page_kernels", "ragged_paged_attention"):
    assert found[name]["cache_copies"] == 0
    # 8 answers and 2 prompts of 4 pages; 32 tokens, keys and values, 4 heads of 128 numbers of 2 bytes.
    assert found[name]["cache_mib"] == pytest.approx(10 * 4 * 32 * 2 * 4 * 128 * 2 / 2**20, rel=0.15)
