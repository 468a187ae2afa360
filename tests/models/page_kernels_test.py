"""Tests the kernel on pages, interpreted on a CPU, against the formulas that a CPU uses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models import page_kernels, paged_attention
from posttrain_jax.models.page_kernels import read_pages
from posttrain_jax.models.paged_attention import _by_formulas, stored
from tests.models.attention_example import traced_for
from tests.models.page_example import LENGTHS, OWNED, PAGE, assert_same, inputs, listing


@jax.jit
def read(query, keys, values, listed, lengths):
  cache = stored(keys, values, (None,))
  return read_pages(query, *cache, (listed.owners, listed.pages, listed.count[0]), lengths, interpret=True)


@pytest.mark.parametrize(
  ("width", "rows", "dtype", "tolerance"),
  [
    (64, 3, jnp.float32, 1e-5),
    (64, 12, jnp.bfloat16, 0.02),
    (128, 3, jnp.bfloat16, 0.02),
  ],
)
def test_unfinished_attention_is_that_of_the_formulas(width, rows, dtype, tolerance):
  arrays = inputs(width, rows, dtype)
  assert_same(read(*arrays, LENGTHS), jax.jit(_by_formulas)(*arrays, LENGTHS), tolerance)


def test_many_rows_are_read_in_several_calls(monkeypatch):
  """Reads 12 rows, at most 8 a call. A v5p holds 64 answers of 28 heads, and a prompt is read once for them."""
  arrays = inputs(64, 12, jnp.float32)
  expected = read(*arrays, LENGTHS)
  monkeypatch.setattr(page_kernels, "_OF_ROWS", 1)
  for one, other in zip(jax.jit(lambda *given: read.__wrapped__(*given))(*arrays, LENGTHS), expected):
    np.testing.assert_allclose(one, other, atol=1e-5)
  monkeypatch.undo()
  assert 64 * 7 <= page_kernels._most_rows(4, 128) < 128 * 7


def test_an_owner_without_pages_has_nothing():
  attended, total, largest = read(*inputs(64, 3, jnp.float32), LENGTHS)
  for owner in (1, 3):
    assert not np.any(attended[owner]) and not np.any(total[owner]) and np.all(np.asarray(largest[owner]) < -1e29)


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
  """Sets what lies after an owner's last token to NaN in pages that are not begun, and to large numbers elsewhere."""
  query, keys, values, listed = inputs(128, 3, jnp.float32)
  expected = read(query, keys, values, listed, LENGTHS)
  for owner, length in enumerate(LENGTHS):
    for place, page in enumerate(listed.pages[listed.owners == owner][: OWNED[owner]]):
      begun = max(0, min(PAGE, length - place * PAGE))
      junk = np.nan if begun == 0 else 1e20
      keys, values = (x.at[page, :, begun:].set(junk) for x in (keys, values))
  for one, other in zip(read(query, keys, values, listed, LENGTHS), expected):
    np.testing.assert_array_equal(one, other)


def test_steps_hold_the_live_pages_of_one_owner_from_a_fixed_multiple():
  listed = inputs(64, 3, jnp.float32)[3]
  cut = jax.jit(functools.partial(page_kernels.cut, page=PAGE, together=8))
  (owners, entries, counts, firsts), number = cut(listed.owners, listed.count[0], LENGTHS)
  # 70 tokens fill 9 of 10 pages, 9 tokens fill 2, 160 tokens fill 20; entries begin at 0, 10, 12 and 13.
  steps = [(0, 0, 8, 0), (0, 8, 1, 8), (1, 10, 0, 0), (2, 10, 2, 0), (3, 12, 0, 0), (4, 13, 8, 0), (4, 21, 8, 8)]
  steps.append((4, 29, 4, 16))
  assert list(zip(*(np.asarray(x)[: int(number)].tolist() for x in (owners, entries, counts, firsts)))) == steps


@pytest.mark.parametrize("width", [64, 128])
def test_the_mesh_says_what_a_program_runs_on(width):
  """Lowers on a CPU for a TPU: the kernel's own checks of its blocks pass."""
  query, keys, values, listed = inputs(width, 8, jnp.bfloat16)
  attend = lambda *arrays: paged_attention._read(arrays[0], stored(*arrays[1:3], (None,)), listed, LENGTHS)  # noqa: E731
  with traced_for("tpu"):
    lowered = jax.jit(attend).trace(query, keys, values).lower(lowering_platforms=("tpu",)).as_text()
  assert lowered.count("tpu_custom_call") == 1
