import dataclasses

import jax
import numpy as np

from posttrain_jax.sampling.state import Drawn, Slots, empty_cache, empty_slots
from tests.sampling.small_engine import CONFIG


def test_an_empty_cache_has_keys_and_values_of_each_layer_in_compute_dtype():
  cache = empty_cache(dataclasses.replace(CONFIG, compute_dtype="bfloat16"), pages=5, page=7)
  assert [len(layer) for layer in cache] == [2] * CONFIG.num_layers
  for leaf in jax.tree.leaves(cache):
    assert leaf.shape == (5, CONFIG.num_kv_heads, 7, CONFIG.head_dim)
    assert leaf.dtype == "bfloat16" and not leaf.any()


def test_empty_slots_draw_nothing():
  slots = empty_slots(3)
  assert slots.active.dtype == bool and not slots.active.any()
  assert slots.key.shape == (3, 2) and slots.key.dtype == np.uint32
  assert {x.shape for x in (slots.token, slots.position, slots.drawn, slots.limit)} == {(3,)}


def test_slots_have_a_sampling_where_requests_have():
  assert empty_slots(3).sampling is None
  sampling = empty_slots(3, own_sampling=True).sampling
  assert {x.shape for x in jax.tree.leaves(sampling)} == {(3,)} and not sampling.top.any()


def test_records_cross_jit_as_what_they_are():
  slots = jax.jit(lambda slots: dataclasses.replace(slots, drawn=slots.drawn + 2))(empty_slots(2))
  assert isinstance(slots, Slots)
  np.testing.assert_array_equal(slots.drawn, [2, 2])
  zeros = np.zeros((4, 2), np.float32)
  drawn = Drawn(zeros.astype(np.int32), zeros, zeros, zeros.astype(bool), np.int32(0))
  assert isinstance(jax.tree.map(lambda x: x, drawn), Drawn) and len(jax.tree.leaves(drawn)) == 5


def test_keys_and_values_may_lie_in_one_array():
  (layer, *_) = empty_cache(CONFIG, pages=5, page=7, joined=True)
  assert [leaf.shape for leaf in layer] == [(5, CONFIG.num_kv_heads, 7, 2 * CONFIG.head_dim)]
