"""Tests shapes, padding and memory on the device's side; its draws are tested with the engine."""

import dataclasses

import jax
import numpy as np

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.sampling.device import Device
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.requests import Request
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import Prompt
from tests.sampling.small_engine import CONFIG, params, prompts

SMALL = dataclasses.replace(CONFIG, num_layers=1)
SIZES = Sizes(
  slots=6, max_prompt_length=12, max_new_tokens=10, steps_per_dispatch=4, prefill_width=3, share=4, cache_tokens=None
)


def new_device(mesh=None, **sizes) -> Device:
  mesh = make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh
  model = dataclasses.replace(SMALL, stacked=False)
  return Device(model, SamplingConfig(), mesh, dataclasses.replace(SIZES, **sizes))


def test_buckets_are_as_long_as_what_is_padded_to_them():
  device = new_device(max_prompt_length=100, max_new_tokens=57)
  assert device.buckets == (50, 100)
  assert device.resume_buckets == (40, 80, 160)  # of 157: multiples of 8


def test_memory_is_taken_once_and_rows_fill_whole_vectors():
  """Six slots have eight rows; four answers share a prompt, so 3 * 8 / 4 prompts have room.

  An answer takes one page of 32 tokens, and so does a prompt.
  """
  device = new_device()
  assert device.state is None
  device.allocate()
  cache, slots, pool = device.state
  assert [x[0][0].shape for x in (cache, pool)] == [(12, 2, 32, 8), (3, 2, 32, 8)]
  assert device.cache_bytes == sum(x.nbytes for x in jax.tree.leaves(cache))
  assert slots.active.shape == (8,)
  device.allocate()
  assert device.state[0] is cache


def test_places_are_those_of_the_mesh():
  """Makes four shards of eight rows, three of them used on each; prompts have no more rows than slots."""
  places = new_device(make_mesh({"data": 4, "tensor": 2}), slots=12, share=1).places()
  assert places.free == 12
  found = [places.take(Request(Prompt(index, (1, 2), {}), 0)) for index in range(12)]
  assert sorted(place.slot for place in found) == [8 * shard + slot for shard in range(4) for slot in range(3)]
  assert all(place.slot // 8 == place.pages[0] // 11 == place.fresh[0] // 11 for place in found)  # 3 + 8 pages


def test_programs_can_be_described_without_memory():
  device = new_device()
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params(SMALL))
  calls = device.abstract_calls(abstract)
  assert device.state is None
  assert set(calls) == {"prefill", "fill", "recompute", "decode"}
  assert calls["prefill"][1][2].shape == (3, 12) and calls["recompute"][1][2].shape == (3, 24)
  program, arguments = calls["decode"]
  _, slots, drawn, _ = jax.eval_shape(program, *arguments)
  assert drawn.tokens.shape == (4, 8) and slots.key.shape == (8, 2)


def test_a_prompt_goes_from_the_pool_to_its_pages_and_is_answered():
  device, (prompt,) = new_device(), prompts(1, seed=3)
  prompt = dataclasses.replace(prompt, tokens=(5, 6, 7))
  request, places = Request(prompt, 1), device.places()
  device.allocate()
  device.prefill(params(SMALL), [(2, prompt)])
  place = places.take(request)
  device.fill([(request, place, 2)], seed=0)
  cache, slots, pool = jax.device_get(device.state)
  np.testing.assert_array_equal(cache[0][0][place.fresh[0]], pool[0][0][2])
  assert (slots.token[place.slot], slots.position[place.slot]) == (7, 2)
  assert (slots.limit[place.slot], slots.active.sum()) == (10, 1)
  drawn, active = device.decode(params(SMALL), places)
  np.testing.assert_array_equal(drawn.active, np.broadcast_to(np.arange(8) == place.slot, (4, 8)))
  np.testing.assert_array_equal(active, np.arange(8) == place.slot)
  own = jax.device_get(device.state[0])[0][0][place.pages[0]]
  saved = device.save(place.pages)
  np.testing.assert_array_equal(saved[0][0][0], own)
  device.restore(saved, [11])
  np.testing.assert_array_equal(jax.device_get(device.state[0])[0][0][11], own)
