"""Tests the configs of the online RL family: what they name exists, and their numbers are the papers'."""

import pytest

from configs import grpo_deepseekmath, ppo_instructgpt, tiny_dapo, tiny_grpo, tiny_leash, tiny_rl
from posttrain_jax.learner.objective import Aggregation
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.runs.settings import parse

CONFIGS = {
  "tiny_dapo": tiny_dapo.get_config(),
  "tiny_grpo": tiny_grpo.get_config(),
  "tiny_leash": tiny_leash.get_config("0.1"),
  "grpo_deepseekmath": grpo_deepseekmath.get_config(),
  **{f"tiny_rl:{method}": tiny_rl.get_config(method) for method in tiny_rl.METHODS},
}


def objective(config):
  return parse(GRPOSettings, config).objective


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_config_names_exists(name):
  objective(CONFIGS[name])
  Estimator(CONFIGS[name].advantage, CONFIGS[name].advantage_options)


def test_no_two_methods_are_the_same():
  fields = ("advantage", "advantage_options", "objective", "reference")
  settings = [str([CONFIGS[f"tiny_rl:{method}"][name] for name in fields]) for method in tiny_rl.METHODS]
  assert len(set(settings)) == len(settings)


def test_methods_differ_in_nothing_but_what_they_name():
  base = tiny_rl.get_config("grpo").to_dict()
  for method in tiny_rl.METHODS:
    config = tiny_rl.get_config(method).to_dict()
    changed = {name for name in base if config[name] != base[name]}
    assert changed <= {"advantage", "advantage_options", "objective", "reference"}


def test_deepseekmaths_numbers():
  config = grpo_deepseekmath.get_config()
  assert config.rollout.groups * config.rollout.group_size == 1024 and config.rollout.group_size == 64
  assert config.optimizer.learning_rate == 1e-6 and config.rollout.max_new_tokens == 1024
  made = objective(config)
  assert (made.kl_coefficient, made.kl_estimator, made.aggregation) == (0.04, "k3", Aggregation.SEQUENCE_MEAN)
  assert made.clip_low == made.clip_high and not config.dynamic_sampling.enabled


def test_instructgpts_numbers():
  config = ppo_instructgpt.get_config()
  rollout, learner, gae = config.rollout, config.learner, config.gae
  answers = rollout.groups * rollout.group_size
  assert answers == 512 and config.steps * answers == 256_000
  assert answers // learner.minibatches == 64 and learner.epochs == 1
  assert (config.kl.coefficient, config.kl.adaptive, config.kl.estimator) == (0.02, False, "k1")
  assert (gae.discount, gae.lam_critic, gae.lam_policy, gae.length_adaptive) == (1.0, 0.95, 0.95, 0.0)
  assert config.objective.clip_low == config.objective.clip_high == 0.2 and rollout.sampling.temperature == 1.0
  assert config.value.optimizer.learning_rate == 9e-6 and not config.value.path and not config.value.zero_head
  assert config.ptx.coefficient == 27.8 and config.ptx.rows == 8 * 64
  assert config.average.decay == 0.992
  assert ppo_instructgpt.get_config("ppo").ptx.coefficient == 0.0


def test_gspos_bounds():
  made = objective(CONFIGS["tiny_rl:gspo"])
  assert (made.surrogate, made.clip_low, made.clip_high) == ("sequence_clipped_surrogate", 3e-4, 4e-4)


def test_the_argument_of_the_leash_is_its_strength():
  assert CONFIGS["tiny_leash"].reference.kl_in_reward == 0.1
  assert tiny_leash.get_config().reference.kl_in_reward == 0.0
