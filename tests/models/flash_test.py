"""Tests the GPU's attention, which XLA runs on a CPU, and the choice of cuDNN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models import attention, flash
from tests.models.attention_example import assert_same, packed, projections, traced_for


def test_packed_rows():
  assert_same(attention.causal(packed(21)), flash, projections(2, 21))


def test_pairs_of_one_segment_by_hand():
  same = flash.same_segment(jnp.array([[0, 0, 1]]))
  np.testing.assert_array_equal(same, [[[[True, True, False], [True, True, False], [False, False, True]]]])
  assert flash.same_segment(None) is None


@pytest.mark.parametrize(
  ("dtype", "width", "length", "implementation"),
  [
    (jnp.bfloat16, 64, 6, "cudnn"),
    (np.float32, 64, 6, "xla"),
    (jnp.bfloat16, 6, 6, "xla"),
    (jnp.bfloat16, 64, 5, "xla"),
  ],
)
def test_cudnn_where_it_takes_the_arrays(dtype, width, length, implementation, monkeypatch):
  taken = []

  def stand_in(query, *_, implementation, **__):
    taken.append(implementation)
    return query

  monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
  with traced_for("gpu"):
    jax.eval_shape(
      lambda *arrays: attention.causal(packed(length))(*arrays, None)[0],
      *projections(2, length, width=width, dtype=dtype),
    )
  assert taken == [implementation]
