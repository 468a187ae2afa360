"""Tests that packed rows give each answer what it gets in a row of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models.attention import causal
from posttrain_jax.models.packed_attention import packed
from posttrain_jax.parallel.mesh import make_mesh
from tests.models.tiles_test import HEADS, QUERY_HEADS, ROWS, SIZE, spans

LENGTH = 60  # the tile of 64 does not divide it


def inputs():
  rng = np.random.default_rng(0)
  return [rng.normal(size=(2, LENGTH, heads, SIZE)).astype(np.float32) for heads in (QUERY_HEADS, HEADS, HEADS)]


def attended():
  made = spans(ROWS, LENGTH)
  found, kept = jax.jit(lambda spans, *inputs: packed(spans)(*inputs, None))(made, *inputs())
  assert kept is None
  return np.asarray(found)


def test_each_answer_sees_its_prompt_and_itself():
  found, given = attended(), inputs()
  for row, (prompts, answers) in enumerate(ROWS):
    at, behind = 0, LENGTH - sum(prompts)
    for prompt, lengths in zip(prompts, answers):
      places_of_prompt = np.arange(behind, behind + prompt)
      behind += prompt
      for length in lengths:
        places = np.concatenate([places_of_prompt, np.arange(at, at + length)])
        alone, _ = causal()(*(x[row : row + 1, places] for x in given), None)
        np.testing.assert_allclose(found[row, places], alone[0], atol=1e-5)
        at += length


@pytest.mark.parametrize("sizes", [dict(fsdp=2), dict(data=2, tensor=2), dict(fsdp=4)])
def test_devices_compute_their_own_rows_and_heads(sizes):
  # Four batch shards do not divide two rows, which are then replicated.
  mesh = make_mesh(sizes, jax.devices()[: int(np.prod(list(sizes.values())))])
  expected = attended()
  with jax.set_mesh(mesh):
    found = attended()
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gradients_on_a_mesh():
  made, given = spans(ROWS, LENGTH), [jnp.asarray(x) for x in inputs()]
  weigh = np.random.default_rng(1).normal(size=given[0].shape).astype(np.float32)
  gradient = jax.grad(lambda inputs: (packed(made)(*inputs, None)[0] * weigh).sum())
  expected = jax.jit(gradient)(given)
  with jax.set_mesh(make_mesh(dict(fsdp=2, tensor=2), jax.devices()[:4])):
    found = jax.jit(gradient)(given)
  for one, other in zip(found, expected):
    np.testing.assert_allclose(one, other, atol=1e-5)
