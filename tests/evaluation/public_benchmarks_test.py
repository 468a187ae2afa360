import importlib

import pytest

from posttrain_jax.evaluation.public_benchmarks import BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_asks_and_judges(name):
  benchmark = BENCHMARKS[name]
  assert "{prompt}" in benchmark.template
  module, function = benchmark.verifier.split(":")
  assert callable(getattr(importlib.import_module(module), function))
  assert benchmark.samples >= 1 and 0 < benchmark.top_p <= 1


def test_aime_is_asked_as_dapo_asks_it():
  aime = BENCHMARKS["aime"]
  assert (aime.samples, aime.temperature, aime.top_p) == (32, 1.0, 0.7) and "Answer: $Answer" in aime.template
