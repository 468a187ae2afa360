"""Tests how compiled programs are read.

The text is written by hand as TPUs have it, or comes from real programs on eight devices.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from posttrain_jax.performance.compile import compiled
from posttrain_jax.performance.compile.compiled import Array

# Two loops, one inside the other; an all-gather that stands in two fusions on one channel; an all-reduce inside a
# fusion that makes it a reduce-scatter; an asynchronous one outside of loops; an all-reduce of two arrays at once.
TEXT = """\
HloModule step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias), {1}: (3, {}, may-alias) }

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add = f32[]{:T(128)} add(%a, %b)
}

%all-reduce-scatter.1 (p: f32[16,4]) -> f32[8,4] {
  %p = f32[16,4]{1,0:T(8,128)} parameter(0)
  %all-reduce.7 = f32[16,4]{1,0:T(8,128)} all-reduce(%p), channel_id=7, replica_groups=[2,2]<=[4], to_apply=%sum
  ROOT %slice = f32[8,4]{1,0:T(8,128)} dynamic-slice(%all-reduce.7, %p), dynamic_slice_sizes={8,4}
}

%async_start (p: bf16[8,4]) -> bf16[16,4] {
  %p.1 = bf16[8,4]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[16,4]{1,0:T(8,128)S(1)} all-gather(%p.1), channel_id=5, metadata={op_name="jit(f)/dot"}
}

%async_done (p: bf16[8,4]) -> bf16[16,4] {
  %p.2 = bf16[8,4]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.2 = bf16[16,4]{1,0:T(8,128)(2,1)} all-gather(%p.2), channel_id=5, dimensions={0}
}

%inner_condition (s: (s32[])) -> pred[] {
  ROOT %less = pred[]{:T(512)} constant(true)
}

%inner (s: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %s.1 = (s32[]{:T(128)}, bf16[8,4]{1,0:T(8,128)(2,1)}) parameter(0)
  %piece = bf16[8,4]{1,0:T(8,128)(2,1)} get-tuple-element(%s.1), index=1
  %start = bf16[16,4]{1,0:T(8,128)(2,1)} fusion(%piece), kind=kCustom, calls=%async_start
  %done = bf16[16,4]{1,0:T(8,128)(2,1)} fusion(%piece), kind=kCustom, calls=%async_done
  ROOT %tuple.1 = (s32[]{:T(128)}, /*index=1*/bf16[8,4]{1,0:T(8,128)(2,1)}) tuple(%s.1, %piece)
}

%outer_condition (s: (s32[])) -> pred[] {
  ROOT %less.1 = pred[]{:T(512)} constant(true)
}

%outer (s: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %s.2 = (s32[]{:T(128)}, bf16[8,4]{1,0:T(8,128)(2,1)}) parameter(0)
  %big = f32[16,4]{1,0:T(8,128)} broadcast(%s.2), dimensions={}
  %scattered = f32[8,4]{1,0:T(8,128)} fusion(%big), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %while.1 = (s32[]{:T(128)}, bf16[8,4]{1,0:T(8,128)(2,1)}) while(%s.2), condition=%inner_condition, body=%inner
}

ENTRY %main (p0: f32[8,4], p1: f32[]) -> f32[8,4] {
  %p0 = f32[8,4]{1,0:T(8,128)} parameter(0)
  %p1 = f32[]{:T(128)} parameter(1)
  %init = (s32[]{:T(128)}, bf16[8,4]{1,0:T(8,128)(2,1)}) tuple(%p1, %p0)
  %while.2 = (s32[]{:T(128)}, bf16[8,4]{1,0:T(8,128)(2,1)}) while(%init), condition=%outer_condition, body=%outer
  %ag = ((f32[8,4]{1,0}), f32[32,4]{1,0}) all-gather-start(%p0), channel_id=9, dimensions={0}
  %agd = f32[32,4]{1,0:T(8,128)} all-gather-done(%ag)
  %both = (f32[8,4]{1,0}, f32[]{:T(128)}) all-reduce(%p0, %p1), channel_id=10, to_apply=%sum
  %there = (f32[8,4]{1,0}, f32[8,4]{1,0}, u32[], u32[]) collective-permute-start(%p0), channel_id=11
  ROOT %out = f32[8,4]{1,0:T(8,128)} get-tuple-element(%both), index=0
}
"""


def by_kind():
  found = compiled.collectives(compiled.instructions(TEXT))
  return sorted((each.kind, each.depth, each.bytes) for each in found)


def test_each_collective_once_with_its_depth_and_its_bytes():
  assert by_kind() == [
    ("all-gather", 0, 32 * 4 * 4),
    ("all-gather", 2, 16 * 4 * 2),
    ("all-reduce", 0, 8 * 4 * 4 + 4),
    ("collective-permute", 0, 8 * 4 * 4),
    ("reduce-scatter", 1, 16 * 4 * 4),
  ]


def test_summary():
  table = compiled.summary(compiled.collectives(compiled.instructions(TEXT)))
  assert table["all-gather"] == {"count": [1, 0, 1], "mib": [round(512 / 2**20, 3), 0, 0]}
  assert list(table) == ["all-gather", "all-reduce", "reduce-scatter", "collective-permute"]


def test_arrays_and_operations():
  found = {each.name: each for each in compiled.instructions(TEXT)}
  assert found["all-gather.1"].arrays == (Array("bf16", (16, 4)),)
  assert found["all-gather.1"].operands == (Array("bf16", (8, 4)),)
  assert found["all-gather.1"].operation == "jit(f)/dot"
  assert found["tuple.1"].arrays == (Array("s32", ()), Array("bf16", (8, 4)))
  assert [found[name].depth for name in ("p0", "big", "piece", "less", "less.1")] == [0, 1, 2, 2, 1]
  assert found["while.2"].opcode == "while" and found["p"].opcode == "parameter"


@pytest.mark.parametrize(
  ("array", "size"), [("pred", 6), ("bf16", 12), ("f32", 24), ("s4", 3), ("c64", 48), ("f8e4m3fn", 6), ("token", 0)]
)
def test_bytes(array, size):
  assert Array(array, (2, 3)).bytes == size


def test_aliases():
  assert compiled.aliased_parameters(TEXT) == {0, 3}
  assert compiled.aliased_parameters("HloModule f, is_scheduled=true\n") == set()


# ---- Real programs.


def mesh():
  return Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)


def test_a_layer_gathered_in_a_scan_and_a_sum_outside():
  """Splits weights [3, 16, 16] float32 over 4 on their rows: each of 3 rounds gathers one of 16 x 16."""
  split, whole = (NamedSharding(mesh(), spec) for spec in (P(None, "fsdp"), P()))

  def run(weights, x):
    def layer(x, weight):
      return jnp.tanh(x @ jax.lax.with_sharding_constraint(weight, whole)), None

    return jax.lax.scan(layer, x, weights)[0].sum()

  shapes = jax.ShapeDtypeStruct((3, 16, 16), jnp.float32), jax.ShapeDtypeStruct((8, 16), jnp.float32)
  rows = NamedSharding(mesh(), P("fsdp"))
  text = jax.jit(run, in_shardings=(split, rows), out_shardings=whole).lower(*shapes).compile().as_text()
  found = compiled.collectives(compiled.instructions(text))
  gathers = [each for each in found if each.kind == "all-gather"]
  assert [(each.depth, each.bytes) for each in gathers] == [(1, 16 * 16 * 4)]
  sums = [each for each in found if each.kind == "all-reduce"]
  assert [(each.depth, each.bytes) for each in sums] == [(0, 4)]


def test_a_donated_argument_is_updated_in_place():
  x, y = jax.ShapeDtypeStruct((64,), jnp.float32), jax.ShapeDtypeStruct((8,), jnp.float32)
  update = lambda y, x: x.at[:8].add(y)  # noqa: E731
  texts = [jax.jit(update, donate_argnums=donated).lower(y, x).compile().as_text() for donated in ((), (1,))]
  assert [compiled.aliased_parameters(text) for text in texts] == [set(), {1}]
