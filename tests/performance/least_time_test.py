"""Tests the least times against worked examples of https://jax-ml.github.io/scaling-book, and by hand."""

import dataclasses

import pytest

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.chips import Chip, chip_of
from posttrain_jax.performance.counts import Copy, Pass, PassKind, as_update
from posttrain_jax.performance.least_time import Times, device_seconds, least_times, read_bytes, warnings
from posttrain_jax.performance.links import Axis

V5E, V5P = chip_of("TPU v5 lite"), chip_of("TPU v5")
ALONE = {"data": Axis(1), "fsdp": Axis(1), "tensor": Axis(1)}
LLAMA_3_70B = TransformerConfig(
  vocab_size=128_256,
  num_layers=80,
  embed_dim=8192,
  mlp_dim=28_672,
  num_heads=64,
  num_kv_heads=8,
  head_dim=128,
  compute_dtype="bfloat16",
)


def sharded(chips: int, chip: Chip) -> Chip:
  """Returns a chip as fast as several."""
  return dataclasses.replace(
    chip, flops_per_second=chips * chip.flops_per_second, bytes_per_second=chips * chip.bytes_per_second
  )


def test_decoding_with_few_and_with_many_rows():
  """Compares with "Inference": a model of 30e9 bytes on 16 v5e with caches of 819 MB takes 2.5 ms and 21 ms.

  With 4 rows, reading weights takes longest. With 256, the products do, and reading the caches comes after them.
  """
  cache, weights = 100e3 * 8192, 30e9
  few, many = (
    device_seconds(sharded(16, V5E), weight_flops=2 * rows * 30e9, weight_bytes=weights, cache_bytes=rows * cache)
    for rows in (4, 256)
  )
  assert few == pytest.approx(2.5e-3, rel=0.03) and many == pytest.approx(21e-3, rel=0.03)


def test_decoding_llama():
  """Compares with "Serving LLaMA 3-70B": 32 rows of 8,192 tokens on 8 v5e take 17 ms in bytes of one; here in two."""
  step = Pass(LLAMA_3_70B, PassKind.SAMPLE, tokens=32, pairs=32 * 8192, logits=32, cache_tokens=32 * 8192)
  assert step.cache_bytes_of_token == pytest.approx(2 * 160e3, rel=0.03)
  found = least_times(step, V5E, ALONE | {"tensor": Axis(8)})
  assert found.least == pytest.approx(2 * 112e9 / (8 * 8.1e11), rel=0.01) and found.bound == "memory"
  assert 32 / found.least / 8 == pytest.approx(235 / 2, rel=0.03)  # tokens a second a chip
  weights, cache = read_bytes(step, ALONE | {"tensor": Axis(8)})
  assert (8 * weights, 8 * cache) == pytest.approx((2 * 69.5e9, 2 * 42.9e9), rel=0.01)
  twice = least_times(dataclasses.replace(step, parts=2, tokens=64, pairs=2 * 32 * 8192, logits=64), V5E, ALONE)
  assert twice.least == pytest.approx(2 * least_times(step, V5E, ALONE).least)


def test_training_llama():
  """Compares with "Training": 15e12 tokens on 18,823 v5p at half of the peak take 17 days."""
  tokens = 4096
  update = as_update(Pass(LLAMA_3_70B, PassKind.FORWARD, tokens=tokens, pairs=0, logits=tokens))
  found = least_times(update, V5P, ALONE)
  assert found.bound == "compute" and found.compute / found.least > 0.8  # the rest is the optimiser's reading
  days = found.compute * 15e12 / tokens / 18_823 / 0.5 / 86_400
  assert days == pytest.approx(17, rel=0.02)


@pytest.mark.parametrize("axes", [1, 3])
def test_fsdp_is_bound_by_links_below_2550_tokens_a_chip(axes):
  """Compares with "Training": 2,550 tokens on v5p, divided by the axes of the torus over which weights are gathered."""
  bandwidth = axes * 2 * V5P.links.bytes_per_second
  mesh = ALONE | {"fsdp": Axis(64, bandwidth, 0)}
  for tokens, bound in ((2500 // axes, "links"), (2600 // axes, "compute")):
    update = as_update(Pass(LLAMA_3_70B, PassKind.FORWARD, tokens=64 * tokens, pairs=0, logits=64 * tokens))
    found = least_times(update, V5P, mesh)
    assert dataclasses.replace(found, device=found.compute).bound == bound  # the book leaves out the optimiser's bytes
    warned = warnings(update, V5P, mesh)
    assert bool(warned) == (bound == "links")
    assert (
      not warned or f"{tokens} tokens a batch shard and micro-batch, expected at least {2550 / axes:.0f}" in warned[0]
    )


def test_collectives_by_hand():
  """Counts the bytes of one layer of width 4 with 10 tokens, where every link has 1 byte a second."""
  model = TransformerConfig(
    vocab_size=8,
    num_layers=1,
    embed_dim=4,
    mlp_dim=4,
    num_heads=1,
    num_kv_heads=1,
    head_dim=4,
    compute_dtype="bfloat16",
  )
  forward = Pass(model, PassKind.FORWARD, tokens=10, pairs=0, logits=0)
  weights = 2 * (7 * 16 + 4 * 8)  # seven matrices of 4 x 4, and the head
  assert forward.weights == weights / 2
  axis = Axis(2, 1.0, 0)

  def seconds(work, **axes):
    return least_times(work, V5E, ALONE | axes).links

  assert seconds(forward, fsdp=axis) == weights
  assert seconds(as_update(forward), fsdp=axis) == 3 * weights  # gathered twice, gradients scattered once
  assert seconds(dataclasses.replace(as_update(forward), parts=2), fsdp=axis) == 2 * 3 * weights
  assert seconds(dataclasses.replace(forward, kind=PassKind.SAMPLE), fsdp=axis) == 0
  assert seconds(forward, data=axis) == 0 and seconds(as_update(forward), data=axis) == 2 * weights
  stream = 10 * 4 * 2
  assert seconds(forward, tensor=axis) == 2 * 2 * stream  # attention and MLP gather and scatter
  assert seconds(as_update(forward), tensor=axis) == 3 * 2 * 2 * stream
  assert seconds(forward, tensor=axis, data=Axis(2)) == 2 * stream
  assert seconds(Copy(1.0, gathered=6.0), fsdp=axis) == 6


def test_the_optimiser_reads_and_writes_its_state():
  update = as_update(Pass(LLAMA_3_70B, PassKind.FORWARD, tokens=0, pairs=0, logits=0))
  found = least_times(update, Chip("none", 1.0, 1.0, 1.0), ALONE | {"fsdp": Axis(2), "tensor": Axis(2)})
  weights = 3 * 2 * update.weights / 2
  assert found.device == found.memory == weights + 28 * LLAMA_3_70B.num_params / 4
  assert found.bound == "memory"


def test_what_bounds():
  assert Times(compute=2, memory=1, links=1, device=2).bound == "compute"
  assert Times(compute=1, memory=2, links=1, device=2).bound == "memory"
  slow = Times(compute=1, memory=2, links=3, device=2)
  assert slow.bound == "links" and slow.least == 3


@pytest.mark.parametrize(("rows", "warns"), [(240, True), (250, False)])
def test_too_few_rows(rows, warns):
  """Compares with "Inference": v5e is bound by memory below some 240 rows, however the weights are split."""
  step = Pass(LLAMA_3_70B, PassKind.SAMPLE, tokens=2 * 8 * rows, pairs=0, logits=0, parts=8)
  mesh = ALONE | {"data": Axis(2)}
  found = warnings(step, V5E, mesh)
  assert bool(found) == warns
  assert not warns or found[0].startswith("240 rows a batch shard, expected at least 243 on v5e")


@pytest.mark.parametrize(("tensor", "warns"), [(16, False), (32, True)])
def test_a_tensor_axis_that_is_too_large(tensor, warns):
  """Works out by hand where a layer's products take as long as its collectives on v5p with one ring.

  2 · 856e6 weights / 4.59e14 FLOPs/s are 3.73 us a token. 4 · 8,192 · 2 bytes / 1.8e11 bytes/s are 0.364 us, 10.2 times
  less on one ring, 20.5 times on two. The book's F / 2,550 for an MLP of two matrices is 11.2.
  """
  update = as_update(Pass(LLAMA_3_70B, PassKind.FORWARD, tokens=10_000, pairs=0, logits=0))
  found = warnings(update, V5P, ALONE | {"tensor": Axis(tensor, 2 * 1.8e11, 1)})
  assert bool(found) == warns
  assert not warns or f"tensor={tensor}, expected at most 20.5 on v5p" in found[0]
