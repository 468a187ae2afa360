import math

import numpy as np
import pytest

from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.own_sampling import OwnSampling, PerRequest, row_sampling
from posttrain_jax.types import InputError

ENGINE = PerRequest(stop_ids=(2,), top_logprobs=5)


def own(top_logprobs=0, max_new_tokens=9, **config):
  return OwnSampling(SamplingConfig(**config), max_new_tokens, 7, top_logprobs)


def test_a_key_depends_on_seed_text_and_sample_and_on_nothing_else():
  keys = {
    own().key(tokens, sample).tobytes() for tokens in ((1, 2), (2, 1), (1,), (1, 2, 0)) for sample in range(3)
  } | {OwnSampling(SamplingConfig(), 9, seed, 0).key((1, 2), 0).tobytes() for seed in (7, 8, -7, 2**70)}
  assert len(keys) == 15
  first = own().key((1, 2), 0)
  assert first.dtype == np.uint32 and first.shape == (2,)
  np.testing.assert_array_equal(first, own(temperature=0.3, max_new_tokens=1).key([1, 2], 0))
  np.testing.assert_array_equal(first, [2887285567, 1168219170])  # the same on every machine and in every version


def test_rows_without_a_request_are_drawn_plainly():
  rows = row_sampling([own(temperature=0.5, top_k=2**40, top_p=0.25, min_p=0.5), own(top_logprobs=3)], 3)
  np.testing.assert_array_equal(rows.temperature, np.float32([0.5, 1, 1]))
  np.testing.assert_array_equal(rows.top_k, [2**31 - 1, 0, 0])
  np.testing.assert_array_equal(rows.top_p, np.float32([0.25, 1, 1]))
  np.testing.assert_array_equal(rows.floor, np.float32([math.log(0.5), -np.inf, -np.inf]))
  np.testing.assert_array_equal(rows.top, [False, True, False])
  assert (rows.temperature.dtype, rows.top_k.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize(
  ("asked", "message"),
  [
    (own(temperature=1e-30), r"sampling\.temperature: 1e-30, expected 0 or"),
    (own(temperature=math.inf), r"sampling\.temperature: inf, expected 0 or"),
    (own(stop_ids=(4,)), r"sampling\.stop_ids: \(4,\), expected none"),
    (own(max_new_tokens=0), "max_new_tokens: 0, expected at least 1"),
    (own(top_logprobs=6), "top_logprobs: 6, expected 0 to 5"),
    (own(top_logprobs=-1), "top_logprobs: -1, expected 0 to 5"),
  ],
)
def test_what_an_engine_cannot_do_is_refused(asked, message):
  with pytest.raises(InputError, match=message):
    asked.check(ENGINE)


def test_what_it_can_do_passes():
  for asked in (own(), own(temperature=0), own(temperature=0.01, top_p=1e-40), own(top_logprobs=5)):
    asked.check(ENGINE)
