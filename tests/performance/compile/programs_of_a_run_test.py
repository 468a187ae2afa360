"""Tests that the programs compiled for a topology are those that a run executes."""

import contextlib
import dataclasses

import jax
import pytest

from configs import tiny_dapo, tiny_dpo
from posttrain_jax.learner.policy_batch import pack_policy
from posttrain_jax.performance.compile import proof
from posttrain_jax.pipelines.grpo_parts import assemble
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.policy_batches import policy_batch, stack_groups, training_mask
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError
from tests.performance.compile.small_config import programs, small


def test_a_run_lowers_the_same_programs(tmp_path):
  """Compares texts of programs: updates, scoring and the hand-over of a run that was assembled."""
  # A chosen budget would follow the limit on prompts, which is changed below.
  config = small(tiny_dapo, **{"eval.every": 0, "learner.tokens_per_micro_batch": 64})
  with contextlib.ExitStack() as stack:
    parts = assemble(parse(GRPOSettings, config), str(tmp_path / "run"), stack)
    assert parts.engine.sizes.max_prompt_length <= 9
    config.rollout.max_prompt_length = parts.engine.sizes.max_prompt_length  # as wide as the data
    run = programs(config)
    learner = parts.learner
    rollout = stack_groups([], parts.shape)
    batch = policy_batch(rollout, training_mask(rollout, overlong_filter=False))
    (first, packing), (second, _) = learner.scorer.split(batch)
    with jax.set_mesh(learner.mesh):
      # From the host, as where an array lies changes the numbers of functions in the text.
      second = dataclasses.replace(second, old_logprobs=second.sampler_logprobs)
      first, second = pack_policy(first, packing), pack_policy(second, packing)
      lowered = {
        "update_on_policy": learner.update[True].lower(learner.state, first),
        "update_off_policy": learner.update[False].lower(learner.state, second),
        "old_logprobs": learner.scorer.program.lower(learner.state.params, packing.forward()),
        "hand_over": parts._hand_over.lower(learner.state.params),
      }
      for name, expected in lowered.items():
        assert proof.lower(run.programs[name]).as_text() == expected.as_text(), name


def test_answers_shorter_than_the_cap():
  """Only the counts follow: answers of 6 tokens are one dispatch, and cost less."""
  config = small(tiny_dapo)
  full, half = programs(config).programs, programs(config, answer_length=6).programs
  assert half["decode"].calls == 1 and half["prefill"].work == full["prefill"].work
  for name in ("old_logprobs", "update_on_policy", "update_off_policy"):
    assert half[name].work.flops < full[name].work.flops
    shapes = (jax.tree.map(lambda x: x.shape, each[name].arguments) for each in (full, half))
    assert next(shapes) == next(shapes)


def test_a_length_that_no_answer_has():
  with pytest.raises(InputError, match=r"--answer_length: 13, expected 1 to rollout.max_new_tokens = 12, or 0"):
    programs(small(tiny_dapo), answer_length=13)
  with pytest.raises(InputError, match="--answer_length: 4, expected none, as the method draws no answers"):
    programs(small(tiny_dpo), answer_length=4)


def test_a_config_that_does_not_fit_its_mesh_is_one_line():
  with pytest.raises(InputError, match=r"mesh: data=2 x fsdp=2 x tensor=4 needs 16 devices, there are 8"):
    programs(small(tiny_dapo, **{"mesh.tensor": 4}))
  with pytest.raises(InputError, match=r"mesh: .*key.* is not divisible by tensor=4"):
    programs(small(tiny_dapo, **{"mesh.data": 1, "mesh.tensor": 4}))
  config = small(tiny_dapo)
  del config.rollout
  with pytest.raises(InputError, match="the config is none of GRPO and its kin, PPO, DPO on given pairs, SFT, a rew"):
    programs(config)
