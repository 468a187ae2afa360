"""Tests which fields of GRPO's and DAPO's config contradict each other, and what is derived from them."""

import pytest

from configs import tiny_dapo, tiny_grpo, tiny_sft
from posttrain_jax.learner.division import Division
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.types import InputError


def settings(module=tiny_dapo, **changes):
  config = module.get_config()
  config.update_from_flattened_dict(changes)
  return parse(GRPOSettings, config)


def test_a_step_is_divided_into_updates():
  found = settings(**{"rollout.groups": 12, "learner.updates_per_step": 3, "learner.tokens_per_micro_batch": 50})
  assert found.division == Division(4, 50)


def test_the_objective_knows_temperature_and_cap():
  found = settings(**{"rollout.sampling.temperature": 0.7, "rollout.max_new_tokens": 9}).objective
  assert (found.temperature, found.max_new_tokens) == (0.7, 9)


def test_only_dapo_has_the_wider_upper_bound():
  assert settings().objective.clip_high == 0.28 and settings(tiny_grpo).objective.clip_high == 0.2


def test_what_a_method_needs_before_its_first_update():
  grpo, plain = Estimator("group_normalized", {}), settings()
  assert not plain.needs_old(grpo) and not plain.needs_reference(grpo)
  assert settings(**{"objective.kl_coefficient": 0.1}).needs_reference(grpo)
  in_reward = settings(**{"reference.kl_in_reward": 0.1})
  assert in_reward.needs_old(grpo) and in_reward.needs_reference(grpo)


def test_the_lowest_may_be_the_best():
  assert settings(**{"eval.best": "-heldout/greedy"}).eval.best == "-heldout/greedy"


def test_config_json_is_a_config_again():
  content = as_config(settings())
  assert "temperature" not in content["objective"]
  assert as_config(parse(GRPOSettings, content)) == content


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"learner.updates_per_step": 3}, "learner.updates_per_step: 3 does not divide rollout.groups = 16"),
    (
      {"learner.tokens_per_micro_batch": 30},
      "learner.tokens_per_micro_batch: 30, expected 0 (chosen) or at least 31, which",
    ),
    ({"eval.every": -1}, "eval.every: -1, expected at least 0"),
    (
      {"optimizer.schedule": "cosine", "steps": 7, "learner.updates_per_step": 2},
      "optimizer.decay_updates: 0, expected more than warmup_updates 5 for the cosine schedule; "
      "optimizer.decay_updates=14 is the end of this run",
    ),
    ({"rollout.sampling.temperature": 0.0}, "rollout.sampling.temperature: 0.0"),
  ],
)
def test_what_is_refused(changes, message):
  with pytest.raises(InputError) as error:
    settings(**changes)
  assert str(error.value).startswith(message)


def test_typos_and_configs_of_other_methods_are_named():
  config = tiny_dapo.get_config()
  config.stepz = 5
  with pytest.raises(InputError, match=r"^stepz: unknown, the closest is steps$"):
    parse(GRPOSettings, config)
  config = tiny_dapo.get_config()
  config.rollout.max_tokens = 7
  with pytest.raises(InputError, match=r"^rollout\.max_tokens: unknown, the closest is max_new_tokens$"):
    parse(GRPOSettings, config)
  with pytest.raises(
    InputError, match=r"^batch_size, demonstrations, .*: missing; the config seems to be of another method"
  ):
    parse(GRPOSettings, tiny_sft.get_config())
