"""Tests R1-Zero's numbers, and that the loop takes its prompts, rewards and objective."""

import string

import pytest

from configs import r1_zero_qwen2_5, tiny_r1_zero
from posttrain_jax.assembly.judges import check_answer_style
from posttrain_jax.assembly.prompts import PromptSettings, load_prompts
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.rewards import verifiers
from posttrain_jax.runs.settings import parse


def test_the_papers_numbers():
  config = r1_zero_qwen2_5.get_config()
  rollout, objective = config.rollout, config.objective
  questions = rollout.groups // config.learner.updates_per_step
  assert rollout.groups * rollout.group_size == 8192 and questions == 32 and config.learner.updates_per_step == 16
  assert rollout.group_size == 16 and rollout.sampling.temperature == 1.0 and rollout.max_new_tokens == 32768
  assert config.steps * config.learner.updates_per_step == 10_400
  assert config.reference.refresh_every * config.learner.updates_per_step == 400
  assert config.optimizer.learning_rate == 3e-6 and config.optimizer.schedule == "constant"
  assert (objective.kl_coefficient, objective.kl_estimator, objective.clip_high) == (0.001, "k3", 10)
  assert config.advantage == "group_normalized" and objective.aggregation == "sequence_mean"
  assert not config.dynamic_sampling.enabled and not config.overlong.penalty_buffer and not config.warmup.steps
  functions = config.rewards.functions
  assert {name: functions[name].weight for name in functions} == {"correct": 1.0, "format": 1.0}


@pytest.mark.parametrize("config", [r1_zero_qwen2_5.get_config(), tiny_r1_zero.get_config()])
def test_what_is_built_of_it(config):
  settings = parse(GRPOSettings, config)
  objective = settings.objective
  assert 1 - objective.clip_low == 0  # a ratio is never below 0: no bound
  check_answer_style(settings.rewards, settings.eval.answer_style)
  format_reward = config.rewards.functions.format
  assert format_reward.function.endswith(f":{verifiers.think_answer_format.__name__}") and not format_reward.options


def test_sizes():
  large, small = r1_zero_qwen2_5.get_config("32b"), r1_zero_qwen2_5.get_config("0.5b")
  assert (large.model.path, small.model.path) == ("Qwen2.5-32B", "Qwen2.5-0.5B")
  assert large.rollout == small.rollout and large.optimizer == small.optimizer
  with pytest.raises(ValueError, match=r"'8b', expected one of 0\.5b, 1\.5b"):
    r1_zero_qwen2_5.get_config("8b")


def test_the_prompt_is_plain_text_that_asks_for_the_template(tmp_path):
  config = r1_zero_qwen2_5.get_config()
  path = tmp_path / "problems.jsonl"
  path.write_text('{"problem": "What is {1} + 1?", "answer": "2"}\n')
  config.prompts.path = str(path)
  tokenizer = tiny_tokenizer([*string.printable[:95], "\n"])
  (prompt,), _ = load_prompts(
    parse(PromptSettings, config.prompts, "prompts"), tokenizer, max_prompt_length=1024, where="prompts"
  )
  text = tokenizer.decode(prompt.tokens)
  assert text.startswith("A conversation between User and Assistant.")
  assert text.endswith("<answer> answer here </answer>.\nUser: What is {1} + 1?\nAssistant:")
