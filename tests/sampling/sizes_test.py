import dataclasses

import pytest

from posttrain_jax.sampling.sizes import Sizes, bucket_of, length_buckets
from posttrain_jax.types import InputError

SIZES = Sizes(
  slots=6, max_prompt_length=12, max_new_tokens=10, steps_per_dispatch=4, prefill_width=3, share=4, cache_tokens=None
)


def test_length_buckets():
  assert length_buckets(2048) == (512, 1024, 2048)
  assert length_buckets(100) == (50, 100)  # a quarter is too short to be worth a program
  assert length_buckets(63) == (63,)
  assert length_buckets(1) == (1,)


def test_the_least_bucket_that_holds_a_length():
  assert [bucket_of((8, 16, 24), length) for length in (1, 8, 9, 24)] == [8, 8, 16, 24]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Sizes)])
def test_sizes_below_one_are_refused(field):
  with pytest.raises(InputError, match=rf"rollout\.{field}: 0, expected at least 1"):
    dataclasses.replace(SIZES, **{field: 0})
