"""Times the decode step of requests with a sampling of their own, at a real vocabulary."""

import time

import jax
import numpy as np
import pytest

from posttrain_jax.models.sizes import SIZES
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.work import Work, random_sampler_params
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.own_sampling import OwnSampling, PerRequest
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import Prompt

NEW, RUNS = 32, 6
CASES = {
  "plain": [SamplingConfig()],
  "warm": [SamplingConfig(temperature=0.7)],
  "greedy": [SamplingConfig(temperature=0)],
  "top_k": [SamplingConfig(top_k=50)],
  "top_p": [SamplingConfig(temperature=0.7, top_p=0.9)],
  "mixed": [SamplingConfig(), SamplingConfig(temperature=0), SamplingConfig(top_k=5)],
}


def step_seconds(engine, prompts, configs):
  """Returns the seconds of a decode step, after the first dispatch and its prefills."""
  for number, prompt in enumerate(prompts):
    own = configs and OwnSampling(configs[number % len(configs)], NEW, number, 0)
    engine.submit(prompt, 1, own or None)
  engine.step()
  engine.take_stats()
  start = time.perf_counter()
  while engine.busy:
    engine.step()
  return (time.perf_counter() - start) / engine.take_stats().decode_steps


@pytest.mark.slow
@pytest.mark.parametrize("slots", [8, 64])
def test_a_step_without_truncation_costs_what_it_costs_in_training(slots):
  """Compares the shortest of some runs, which take turns, with the engine that draws all alike; prints the ratios."""
  model, rng = SIZES["smol_4layer"], np.random.default_rng(0)
  mesh = make_mesh({}, jax.local_devices()[:1])
  params = random_sampler_params(Work(model), mesh)
  prompts = [Prompt(i, tuple(rng.integers(0, 1000, 8).tolist()), {}) for i in range(slots)]
  sizes = Sizes(slots=slots, max_prompt_length=16, max_new_tokens=NEW)
  alike = Engine(model, SamplingConfig(), sizes, seed=0)
  own = Engine(model, PerRequest((), top_logprobs=20), sizes, seed=0)
  times = {name: [] for name in ("alike", *CASES)}
  for engine in (alike, own):
    engine.load(params, 0)
    step_seconds(engine, prompts, CASES["plain"] if engine is own else [])  # compiles
  for _ in range(RUNS):
    times["alike"].append(step_seconds(alike, prompts, []))
    for name, configs in CASES.items():
      times[name].append(step_seconds(own, prompts, configs))
  ratios = {name: round(min(found) / min(times["alike"]), 3) for name, found in times.items()}
  print(slots, ratios)
  assert ratios["plain"] < 1.2 and ratios["warm"] < 1.3
