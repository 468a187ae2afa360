"""Tests what decides whether two methods may share a warm-up."""

import dataclasses

from configs import tiny_dapo, tiny_ppo
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.pipelines.warm_up_inputs import evaluated_on, inputs
from posttrain_jax.runs.settings import parse

DAPO = parse(GRPOSettings, tiny_dapo.get_config())


def test_what_only_the_method_reads_is_left_out():
  digests = {"tokenizer": "a", "eval.sets.heldout.prompts": "b", "prompts": "c", "replay": "d"}
  found = inputs(DAPO.model, digests, {})
  assert found["read"] == {"tokenizer": "a", "eval.sets.heldout.prompts": "b"} and found["model"]["num_layers"] == 2


def test_methods_that_warm_up_alike_share_it():
  ppo = parse(PPOSettings, tiny_ppo.get_config())
  assert DAPO.warmup == ppo.warmup and DAPO.model == ppo.model
  weights = [each.rewards.functions["correct"].weight for each in (DAPO, ppo)]
  assert weights[0] != weights[1]
  assert evaluated_on(DAPO.eval, DAPO.rewards, scored=False) == evaluated_on(ppo.eval, ppo.rewards, scored=False)
  other = evaluated_on(dataclasses.replace(ppo.eval, slots=3), ppo.rewards, scored=False)
  assert other != evaluated_on(ppo.eval, ppo.rewards, scored=False)


def test_functions_of_ones_own_are_not_known():
  ((name, function),) = DAPO.rewards.functions.items()
  own = dataclasses.replace(DAPO.rewards, functions={name: dataclasses.replace(function, function="mine.py:f")})
  assert evaluated_on(DAPO.eval, own, scored=False) is None and inputs(DAPO.model, {}, None) is None
