import dataclasses

import jax
import pytest

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.sampling.sizes import Sizes, layout_of
from posttrain_jax.types import InputError
from tests.sampling.small_engine import CONFIG

SIZES = Sizes(
  slots=6,
  max_prompt_length=12,
  max_new_tokens=10,
  steps_per_dispatch=4,
  prefill_chunk=64,
  prefill_width=3,
  prefills_per_dispatch=2,
  share=4,
  cache_tokens=None,
)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Sizes)])
def test_sizes_below_one_are_refused(field):
  with pytest.raises(InputError, match=rf"rollout\.{field}: 0, expected at least 1"):
    dataclasses.replace(SIZES, **{field: 0})


def test_a_chunk_that_does_not_fill_whole_pages_is_refused():
  with pytest.raises(InputError, match=r"rollout\.prefill_chunk: 48 tokens, expected a multiple of 32"):
    dataclasses.replace(SIZES, prefill_chunk=48)


def layout(mesh=None, **sizes):
  mesh = make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh
  return layout_of(CONFIG, mesh, dataclasses.replace(SIZES, **sizes))


def test_rows_fill_whole_vectors_and_pages_hold_the_longest():
  """Six slots have eight rows; four answers share a prompt, so 3 * 8 / 4 prompts have room.

  An answer takes one page of 32 tokens, and so does a prompt.
  """
  found = layout()
  assert (found.rows, found.prompts, found.of_prompt, found.of_answer) == (8, 6, 1, 1)
  assert found.pages == 6 * 1 + 6 * 1
  assert layout(max_prompt_length=34, max_new_tokens=65).pages == 6 * 3 + 6 * 2  # the last prompt token is apart


@pytest.mark.parametrize(("longest", "chunk"), [(1, 32), (33, 32), (34, 64), (1000, 64)])
def test_a_chunk_is_no_longer_than_the_longest_prompt(longest, chunk):
  assert layout(max_prompt_length=longest).chunk == chunk


def test_slots_and_chunks_are_split_over_shards():
  found = layout(make_mesh({"data": 4, "tensor": 2}), slots=12, share=1, prefill_width=9)
  assert (found.shards, found.slots, found.rows, found.prompts, found.width) == (4, 3, 8, 8, 3)
