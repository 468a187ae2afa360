import dataclasses

from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.counts import Copy, Pass, PassKind, as_update, group_pass

MODEL = TransformerConfig(
  vocab_size=512,
  num_layers=2,
  embed_dim=64,
  mlp_dim=128,
  num_heads=4,
  num_kv_heads=2,
  head_dim=16,
  compute_dtype="bfloat16",
)


def test_groups():
  """Counts a prompt of 3 with 2 answers of 4: 2 tokens before the last, which starts each answer."""
  sizes = dict(prompts=5, prompt_length=3, answers=2, answer_length=4, parts=5)
  found = group_pass(MODEL, **sizes)
  assert (found.tokens, found.pairs, found.logits) == (5 * (2 + 2 * 4), 5 * (3 + 2 * (2 * 4 + 10)), 5 * 2 * 4)
  assert (found.kind, found.parts, found.cache_tokens) == (PassKind.FORWARD, 5, 0)
  assert group_pass(dataclasses.replace(MODEL, scalar_head=True), **sizes).logits == 0


def test_an_update_costs_three_forward_passes():
  forward = Pass(MODEL, PassKind.FORWARD, tokens=10, pairs=30, logits=7)
  assert forward.flops == flops.forward(MODEL, tokens=10, pairs=30, logits=7)
  assert as_update(forward).flops == 3 * forward.flops
  assert dataclasses.replace(forward, kind=PassKind.SAMPLE).flops == forward.flops


def test_bytes_of_a_token_in_the_cache():
  """Counts keys and values of 2 layers, 2 heads of 16 numbers of 2 bytes."""
  step = Pass(MODEL, PassKind.SAMPLE, tokens=1, pairs=0, logits=1)
  assert (step.cache_bytes_of_token, step.itemsize) == (2 * 2 * 2 * 16 * 2, 2)


def test_a_copy_computes_nothing():
  assert Copy(100).flops == 0
