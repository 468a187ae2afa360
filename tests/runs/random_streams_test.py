import pytest

from posttrain_jax.runs.random_streams import Stream, stream_seed


def test_every_purpose_and_every_seed_has_its_own():
  seeds = {stream_seed(seed, stream) for seed in range(100) for stream in Stream}
  assert len(seeds) == 100 * len(Stream)
  assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
  ("stream", "expected"),
  # These numbers are part of what a run's seed means: old runs could not be resumed or repeated with others.
  [("params", 1983771228), ("prompts", 1386932590), ("rollout", 382941602), ("evaluation", 1185599471)],
)
def test_the_numbers_stay(stream, expected):
  assert stream_seed(0, Stream(stream)) == expected
