"""Benchmarks run and say what they say they do; how fast is for the benchmark to tell, not for a test."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance import learning, rollout, step
from posttrain_jax.performance.work import Work, sampler_params
from posttrain_jax.types import InputError

MODEL = TransformerConfig(
  vocab_size=96, num_layers=2, embed_dim=16, mlp_dim=32, num_heads=4, num_kv_heads=2, head_dim=4, tied=True
)
WORK = Work(MODEL, prompts=8, group=2, prompt_length=3, new_tokens=4, slots=16, steps_per_dispatch=2, runs=2)


def numbers(record):
  return {name: value for name, value in record.items() if not isinstance(value, dict)}


def test_rollout():
  found = rollout.rollout(WORK)
  assert found["tokens"] == 8 * 2 * 4 and found["runs"] == 2 and found["idle_share"] == 0
  assert all(value > 0 for name, value in found.items() if name != "idle_share")
  assert found["share_of_limit"] == pytest.approx(
    found["tokens_per_second"] / found["limit_tokens_per_second"], rel=0.01
  )


def test_unequal_lengths_are_geometric_and_compared_with_waiting():
  work = Work(MODEL, prompts=64, group=4, prompt_length=3, new_tokens=24, slots=16, mean_length=8, runs=1)
  found = rollout.rollout(work)
  # Of one id in eight drawn by weights that are not quite uniform; the cap takes off a share of e^-3.
  assert 0.6 * 8 < found["tokens"] / work.answers < 1.2 * 8
  assert 0 < found["idle_share"] < 1
  assert found["waiting_tokens_per_second"] > 0


@pytest.mark.parametrize("mode", [learning.learning, step.step, step.handover])
def test_the_other_modes(mode, tmp_path):
  found = mode(WORK, str(tmp_path))
  assert all(value > 0 for value in numbers(found).values())
  assert any(path.suffix == ".pb" for path in tmp_path.rglob("*"))  # the trace
  for phases in (value for value in found.values() if isinstance(value, dict)):
    assert set(phases) == {"rollout", "train", "handover"} and all(value > 0 for value in phases.values())


def test_a_step_trains_on_what_was_drawn():
  engine = rollout.make_engine(WORK)
  groups = engine.generate(WORK.draw_prompts(), WORK.group)
  batch = step.judged_batch(WORK, groups)
  np.testing.assert_array_equal(batch.answers[3, 1], groups[3].answers[1].tokens)
  assert batch.mask.all()
  np.testing.assert_allclose(batch.advantages[..., 0], [[1, -1]] * 8, atol=1e-6)


def test_random_weights_are_the_learners_own():
  """So that the sampler's and the learner's logprobs are of one and the same policy."""
  learner = learning.make_learner(WORK)
  engine_params = sampler_params(WORK, learner.mesh)
  handed = step.handover_of(learner, learner.mesh, WORK)(learner.state.params)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
  assert shapes(handed) == shapes(engine_params)


@pytest.mark.parametrize("wrong", [{"prompts": 0}, {"runs": 0}, {"mean_length": -1}])
def test_bad_sizes(wrong):
  (name,) = wrong
  with pytest.raises(InputError, match=f"--{name}=.*expected"):
    Work(MODEL, **wrong)


def run(*arguments):
  command = [sys.executable, "-m", "experiments.benchmark", *arguments]
  return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": ""})


def test_the_last_line_is_json():
  done = run("--mode=handover", "--runs=1")
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert found["mode"] == "handover" and found["model"] == "smol_4layer" and found["device"] == "cpu"
  assert found["gib"] == pytest.approx(42_472_512 * 4 / 2**30, rel=0.01)
  assert found["peak_memory_gib"] > found["gib"]


def test_an_unknown_model_is_one_line():
  done = run("--model=gpt")
  assert done.returncode == 2 and done.stdout == ""
  assert done.stderr.strip().splitlines() == [
    "error: model: 'gpt', expected one of smol_4layer, smollm2_135m, llama3_2_1b, qwen2_5_0_5b, qwen2_5_7b, qwen2_5_32b"
  ]
