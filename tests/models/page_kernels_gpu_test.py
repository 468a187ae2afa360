"""Tests the GPU's kernels on pages, interpreted on a CPU, against the formulas, and lowers them for CUDA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models import paged_attention
from posttrain_jax.models.page_kernels_gpu import fits, read_pages
from posttrain_jax.models.paged_attention import _by_formulas
from tests.models.attention_example import traced_for
from tests.models.page_example import LENGTHS, OWNED, PAGE, assert_same, inputs, listing
from tests.models.paged_attention_test import attend, case


@jax.jit
def read(query, keys, values, listed, lengths):
  entries = (listed.owners, listed.pages, listed.count[0])
  return read_pages(query, (keys, values), entries, lengths, interpret=True)


def lowered_for_cuda(query, keys, values, listed):
  reading = lambda query, listed, lengths, *cache: paged_attention._read(query, cache, listed, lengths)  # noqa: E731
  with traced_for("gpu"):
    traced = jax.jit(reading).trace(query, listed, LENGTHS, keys, values)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
  ("width", "rows", "dtype", "tolerance"),
  [
    (64, 3, jnp.float32, 1e-5),  # a step's pages are loaded in two parts
    (128, 70, jnp.bfloat16, 0.02),  # in two parts, too; two blocks of rows
  ],
)
def test_unfinished_attention_is_that_of_the_formulas(width, rows, dtype, tolerance):
  arrays = inputs(width, rows, dtype)
  assert_same(read(*arrays, LENGTHS), jax.jit(_by_formulas)(*arrays, LENGTHS), tolerance)


def test_rows_that_share_prompts_read_through_the_kernels(monkeypatch):
  arguments, _ = case()
  expected, _ = attend(*arguments)
  calls = []
  monkeypatch.setattr(paged_attention, "_by_formulas", lambda *given: calls.append(given) or read(*given))
  found, _ = jax.jit(lambda *given: attend.__wrapped__(*given))(*arguments)
  assert len(calls) == 2  # for the rows' own pages and for the prompts'
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_bit_depends_on_other_owners_or_on_where_pages_lie():
  """Compares the last owner with itself alone, in other pages."""
  query, keys, values, listed = inputs(64, 3, jnp.float32)
  whole = read(query, keys, values, listed, LENGTHS)
  old = listed.pages[listed.owners == 4][: OWNED[4]]
  new = np.arange(OWNED[4])[::-1]
  keys, values = (x.at[new].set(x[old]) for x in (keys, values))
  alone = read(query, keys, values, listing([(4, list(new))]), LENGTHS)
  for one, other in zip(alone, whole):
    np.testing.assert_array_equal(one[4], other[4])


def test_what_is_not_seen_may_be_anything():
  """Sets what lies after an owner's last token to NaN. No owner has tokens in the other pages."""
  query, keys, values, listed = inputs(64, 3, jnp.float32)
  expected = read(query, keys, values, listed, LENGTHS)
  seen = np.zeros(keys.shape[0] * PAGE, bool)
  for owner, length in enumerate(LENGTHS):
    for place, page in enumerate(listed.pages[listed.owners == owner][: OWNED[owner]]):
      seen[page * PAGE : page * PAGE + max(0, min(PAGE, length - place * PAGE))] = True
  keys, values = (jnp.where(seen.reshape(-1, 1, PAGE, 1), x, jnp.nan) for x in (keys, values))
  for one, other in zip(read(query, keys, values, listed, LENGTHS), expected):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("width", "dtype"), [(64, jnp.bfloat16), (128, jnp.float32)])
def test_a_gpus_program_has_the_kernels_and_no_copied_page(width, dtype):
  """Lowers on a CPU for CUDA: only the kernels use the cache, and nothing else has its size."""
  query, keys, values, listed = inputs(width, 8, dtype)
  lowered = lowered_for_cuda(query, keys, values, listed)
  kernels = [line for line in lowered.splitlines() if "xla.gpu.triton" in line]
  assert len(kernels) == 2
  cache = "x".join(map(str, keys.shape)) + "x"
  using = [line for line in lowered.splitlines() if cache in line and "func.func" not in line]
  assert using == kernels[:1]


def test_other_sizes_than_powers_of_two_are_left_to_the_formulas():
  query, keys, values, listed = inputs(96, 1, jnp.float32)
  assert not fits((keys, values)) and fits((keys[..., :64], values[..., :64]))
  lowered = lowered_for_cuda(query, keys, values, listed)
  assert "xla.gpu.triton" not in lowered
