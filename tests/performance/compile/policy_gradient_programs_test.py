"""Tests which programs GRPO and PPO have, and how often a step calls them."""

import jax

from configs import tiny_dapo, tiny_ppo
from posttrain_jax.performance.compile import proof
from tests.performance.compile.small_config import programs, small


def test_what_a_step_of_dapo_calls():
  run = programs(small(tiny_dapo))
  calls = {name: program.calls for name, program in run.programs.items()}
  # 8 groups of 4 answers on 32 slots; 12 tokens, 8 a dispatch; two updates, the first of which scores itself.
  expected = dict(old_logprobs=1, update_on_policy=1, update_off_policy=1, prefill=1, decode=2, hand_over=1)
  assert calls == expected
  assert set(run.arrays) == {"policy", "optimizer", "sampler", "caches"}
  assert run.programs["decode"].frees == () and run.programs["update_on_policy"].frees == ("caches", "sampler")
  for name in ("prefill", "decode"):
    given = {id(leaf) for leaf in jax.tree.leaves(run.programs[name].arguments)}
    for array in ("sampler", "caches"):
      is_given = [id(leaf) in given for leaf in jax.tree.leaves(run.arrays[array])]
      assert is_given == [array in run.programs[name].takes] * len(is_given), (name, array)
  carried = programs(small(tiny_dapo, **{"dynamic_sampling.admission": "carry", "objective.kl_coefficient": 0.1}))
  assert set(carried.programs) - set(calls) == {"reference_logprobs"}
  assert carried.programs["prefill"].calls > run.programs["prefill"].calls
  batches = programs(small(tiny_dapo, **{"dynamic_sampling.admission": "batch"})).programs  # of 3 x 8 prompts
  assert (batches["prefill"].calls, batches["decode"].calls) == (3, 6)


def test_ppo_has_four_models():
  config = small(
    tiny_ppo,
    **{"reward_model": "somewhere", "average.decay": 0.9, "ptx.coefficient": 1.0, "objective.kl_coefficient": 0.1},
  )
  run = programs(config)
  trained = {"policy", "optimizer", "value", "value_optimizer"}
  assert set(run.arrays) == trained | {"reference", "reward", "average", "sampler", "caches"}
  names = {"old_logprobs", "reference_logprobs", "values", "value_update", "reward", "average"}
  assert names <= set(run.programs)
  for name in names | {"update_off_policy"}:
    proof.lower(run.programs[name])  # arguments that do not fit would be refused
