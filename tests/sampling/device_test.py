"""Tests shapes, padding and memory on the device's side; its draws are tested with the engine."""

import dataclasses

import jax
import numpy as np

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.sampling.chunk_plan import ChunkPlan
from posttrain_jax.sampling.device import Device
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.requests import Request
from posttrain_jax.types import Prompt
from tests.sampling.sizes_test import SIZES
from tests.sampling.small_engine import CONFIG, params

SMALL = dataclasses.replace(CONFIG, num_layers=1)


def new_device(mesh=None, **sizes) -> Device:
  mesh = make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh
  model = dataclasses.replace(SMALL, stacked=False)
  return Device(model, SamplingConfig(), mesh, dataclasses.replace(SIZES, **sizes))


def test_memory_is_taken_once():
  """Six answers and six prompts have a page each."""
  device = new_device()
  assert device.state is None
  device.allocate()
  cache, slots = device.state
  assert cache[0][0].shape == (12, 2, 32, 8) and slots.active.shape == (8,)
  assert device.cache_bytes == sum(x.nbytes for x in jax.tree.leaves(cache))
  device.allocate()
  assert device.state[0] is cache


def test_places_are_those_of_the_mesh():
  """Makes four shards of eight rows, three of them used on each; prompts have no more rows than slots."""
  places = new_device(make_mesh({"data": 4, "tensor": 2}), slots=12, share=1).places()
  requests = [Request(Prompt(index, (1, 2), {}), 0) for index in range(12)]
  slots = [places.take(request) for request in requests]
  assert sorted(slots) == [8 * shard + slot for shard in range(4) for slot in range(3)]
  assert [slot // 8 for slot in slots] == [places.pages_of(request)[0] // 11 for request in requests]  # 3 + 8 pages


def test_programs_can_be_described_without_memory():
  device = new_device()
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params(SMALL))
  calls = device.abstract_calls(abstract)
  assert device.state is None
  assert set(calls) == {"prefill", "decode"}
  chunks = calls["prefill"][1][2]
  assert chunks.tokens.shape == (3, 32) and chunks.written.shape == (3, 1)
  assert chunks.earlier.shape == (3 * 2, 1)  # a chunk of the prompt and one of the answer before each
  program, arguments = calls["decode"]
  _, slots, drawn, _ = jax.eval_shape(program, *arguments)
  assert drawn.tokens.shape == (4, 8) and slots.key.shape == (8, 2)


def test_a_prompt_is_prefilled_into_its_pages_and_answered():
  device = new_device()
  request, places = Request(Prompt(0, (5, 6, 7), {}), 1), device.places()
  device.allocate()
  slot = places.take(request)
  plan = ChunkPlan(places, iter(()), chunk=32, width=3, page=32)
  device.prefill(params(SMALL), plan.chunks)
  device.begin([(slot, request)], seed=0)
  places.placed[request].begun = True
  (copy,) = places.copies.values()
  cache, slots = jax.device_get(device.state)
  assert np.abs(cache[0][0][copy.pages[0]]).sum((0, 2)).nonzero()[0].tolist() == [0, 1]
  assert (slots.token[slot], slots.position[slot]) == (7, 2)
  assert (slots.limit[slot], slots.active.sum()) == (10, 1)
  drawn, active = device.decode(params(SMALL), places)
  np.testing.assert_array_equal(drawn.active, np.broadcast_to(np.arange(8) == slot, (4, 8)))
  np.testing.assert_array_equal(active, np.arange(8) == slot)
  page = places.pages_of(request)[0]
  own = jax.device_get(device.state[0])[0][0][page]
  saved = device.save([page])
  np.testing.assert_array_equal(saved[0][0][0], own)
  device.restore(saved, [11])
  device.copy([page], [10])
  again = jax.device_get(device.state[0])[0][0]
  assert own.any() and (again[11] == own).all() and (again[10] == own).all()
