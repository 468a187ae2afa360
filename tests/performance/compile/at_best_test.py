"""Tests the report on what programs reach at best, for a v5e that is not there."""

import json
import types

import numpy as np
import pytest

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.chips import chip_of
from posttrain_jax.performance.compile.at_best import program_at_best, step_at_best
from posttrain_jax.performance.compile.program import Program
from posttrain_jax.performance.counts import Copy, Pass, PassKind, as_update
from posttrain_jax.performance.timing import rounded

MODEL = TransformerConfig(
  vocab_size=64,
  num_layers=1,
  embed_dim=64,
  mlp_dim=64,
  num_heads=1,
  num_kv_heads=1,
  head_dim=64,
  compute_dtype="bfloat16",
)
V5E = chip_of("TPU v5 lite")
DRAW = Pass(MODEL, PassKind.SAMPLE, tokens=80, pairs=0, logits=80, parts=10, cache_tokens=1e9)
SCORE = Pass(MODEL, PassKind.FORWARD, tokens=10_000_000, pairs=0, logits=10_000_000)


def program(work, calls, kind="TPU v5 lite"):
  devices = np.empty((1, 1, 1), object)
  devices[0, 0, 0] = types.SimpleNamespace(device_kind=kind, coords=(0, 0, 0))
  mesh = types.SimpleNamespace(devices=devices, size=1, axis_names=("data", "fsdp", "tensor"))
  return Program(None, (), mesh, calls, work, ())


def test_a_decode_step_is_bound_by_its_cache():
  found = program_at_best(program(DRAW, 1))
  cache = 1e9 * 2 * 64 * 2  # keys and values, of 64 numbers of two bytes
  assert found["bound"] == "memory" and found["seconds"] == pytest.approx(10 * cache / V5E.bytes_per_second, rel=1e-3)
  assert found["cache_gib_read"] == pytest.approx(cache / 2**30, rel=1e-3)
  assert found["weights_gib_read"] == pytest.approx(2 * 8 * 64 * 64 / 2**30, rel=1e-3)
  assert found["tokens_per_second_per_chip"] == pytest.approx(80 / found["seconds"], rel=1e-3)
  assert found["mfu"] == pytest.approx(DRAW.flops / found["seconds"] / V5E.flops_per_second, rel=1e-3)
  assert [warning[:6] for warning in found["warnings"]] == ["8 rows"]
  json.dumps(found)


def test_scoring_many_tokens_is_bound_by_compute():
  found = program_at_best(program(SCORE, 1))
  assert (found["bound"], found["mfu"], found["warnings"]) == ("compute", 1.0, [])


def test_a_copy_has_no_tokens():
  assert program_at_best(program(Copy(8.1e11), 1)) == {
    "seconds": 1.0,
    "bound": "memory",
    "compute_seconds": 0.0,
    "memory_seconds": 1.0,
    "links_seconds": 0.0,
  }


def test_a_step_adds_up_its_calls():
  update = as_update(SCORE)
  calls = [(DRAW, 3), (update, 2), (Copy(8.1e11), 1)]
  programs = [program(work, count) for work, count in calls]
  found = step_at_best(programs)
  seconds = sum(program_at_best(each)["seconds"] * each.calls for each in programs)
  assert found["seconds"] == pytest.approx(seconds, rel=1e-3)
  assert found["drawn_tokens_per_second_per_chip"] == pytest.approx(3 * 80 / seconds, rel=1e-3)
  assert found["mfu"] == pytest.approx((3 * DRAW.flops + 2 * update.flops) / seconds / V5E.flops_per_second, rel=1e-3)
  assert "drawn_tokens_per_second_per_chip" not in step_at_best(programs[1:])


def test_a_chip_that_is_not_in_the_table():
  unknown = program(SCORE, 1, kind="cpu")
  assert program_at_best(unknown) is None and step_at_best([unknown]) is None


def test_four_digits():
  assert rounded(12345.6) == 12350.0
