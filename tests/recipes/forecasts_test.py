import json

import pytest

from configs import (
  tiny_collect,
  tiny_dapo,
  tiny_distillation,
  tiny_dpo,
  tiny_edited,
  tiny_generative_grpo,
  tiny_generative_reward,
  tiny_online_dpo,
  tiny_ppo,
  tiny_reward_model,
  tiny_sft,
)
from configs.recipes import attacker_sections
from posttrain_jax.models import flops
from posttrain_jax.performance.counts import group_pass
from posttrain_jax.recipes import average, evaluation, forecasts
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model

KNOWN = Forecast(0.5)
# Lengths are half of the limits of 8 and 24 tokens.
ASKED, ANSWERED = 4, 12


def small(module, **changes):
  config = module.get_config()
  config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
  return config


def forward(config, prompts, answers):
  model = KNOWN.model(config.model).model
  return group_pass(model, prompts=prompts, prompt_length=ASKED, answers=answers, answer_length=ANSWERED).flops


def test_supervised_rows_are_measured_where_they_exist(tmp_path):
  file = tmp_path / "rows.jsonl"
  rows = [{"prompt": "1+2=", "completion": answer} for answer in "35"]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  config = small(tiny_sft, steps=0, epochs=3, batch_size=2, demonstrations__path=str(file))
  config.demonstrations.packed = False
  found = forecasts.supervised(config, KNOWN)
  # Three steps of two rows; an answer is a digit and the end token, after the tokens "1", "+2" and "=".
  assert (found.examples, found.trained) == (2, 3 * 2 * 2)
  model = KNOWN.model(config.model).model
  assert found.training_flops == 3 * flops.forward(model, tokens=30, pairs=75, logits=12)


def test_supervised_rows_that_do_not_exist_yet(tmp_path):
  known = Forecast(0.5)
  known.expect_rows(tmp_path / "rows.jsonl", 40)
  config = small(tiny_sft, steps=0, epochs=1, batch_size=8, demonstrations__path=str(tmp_path / "rows.jsonl"))
  config.demonstrations.packed = False
  assert forecasts.supervised(config, known).trained == 40 * ANSWERED
  config.demonstrations.limit = 16
  assert forecasts.supervised(config, known).examples == 16


def test_judgements():
  config = small(tiny_generative_reward, steps=3, epochs=0, batch_size=2)
  config.demonstrations.update(per_difficulty=2, copies=3, row_length=64, packed=True)
  found = forecasts.judgements(config, KNOWN)
  assert (found.examples, found.trained) == (36, 3 * 2 * 64)  # packed rows are full
  config.demonstrations.packed = False
  assert forecasts.judgements(config, KNOWN).trained == 3 * 2 * 32


def test_comparisons():
  config = small(tiny_reward_model, steps=10, batch_size=4, preferences__held_out=0.0, preferences__per_difficulty=3)
  found = forecasts.reward_model(config, KNOWN)
  assert found.examples == 18  # six difficulties
  assert found.training_flops == 3 * forward(config, 40, 2)
  config = small(tiny_dpo, steps=10, batch_size=4, preferences__held_out=0.0, preferences__per_difficulty=3)
  found = forecasts.preference_optimization(config, KNOWN)
  assert found.training_flops == 3 * forward(config, 40, 2) + forward(config, 18, 2)  # the reference scores each once


def test_rollouts():
  config = small(tiny_dapo, steps=5, rollout__groups=4, rollout__group_size=2)
  found, once = forecasts.policy_gradient(config, KNOWN), forward(config, 20, 2)
  assert (found.examples, found.generated, found.trained) == (20, 40 * ANSWERED, 40 * ANSWERED)
  assert (found.sampling_flops, found.training_flops) == (once, 4 * once)
  config.reward_model, config.objective.kl_coefficient = "rm", 0.1
  found = forecasts.policy_gradient(config, KNOWN)
  assert (found.sampling_flops, found.training_flops) == (2 * once, 5 * once)
  config = small(tiny_ppo, steps=5, rollout__groups=4, rollout__group_size=2, learner__epochs=2, reward_model="")
  assert forecasts.policy_gradient(config, KNOWN).training_flops == 15 * once
  config = small(tiny_online_dpo, steps=5, rollout__groups=4, rollout__group_size=2)
  assert forecasts.preference_optimization(config, KNOWN).training_flops == 4 * once


def test_the_text_of_ppo_ptx_is_trained_on():
  changes = dict(steps=5, rollout__groups=4, rollout__group_size=2, learner__epochs=2, learner__minibatches=3)
  plain = small(tiny_ppo, **changes, reward_model="", value__pretraining_steps=1)
  mixed = small(tiny_ppo, **changes, reward_model="", value__pretraining_steps=1, ptx__coefficient=1.0, ptx__rows=6)
  mixed.ptx.demonstrations.update(row_length=64, packed=True)
  one, two = (forecasts.policy_gradient(config, KNOWN) for config in (plain, mixed))
  tokens = 4 * 2 * 3 * 6 * 64  # in four steps the policy is updated six times, each time with six rows
  assert two.trained - one.trained == tokens and two.generated == one.generated
  model = KNOWN.model(plain.model).model
  text = 3 * flops.forward(model, tokens=tokens, pairs=tokens * 32, logits=tokens)
  assert two.training_flops - one.training_flops == pytest.approx(text)
  mixed.ptx.demonstrations.packed = False
  assert forecasts.policy_gradient(mixed, KNOWN).trained - one.trained == tokens / 2


def test_rows_that_a_stage_would_refuse_are_refused_before(tmp_path):
  file = tmp_path / "rows.jsonl"
  config = small(tiny_sft, demonstrations__path=str(file))
  file.write_text(json.dumps({"prompt": "1+2=", "completion": "three"}) + "\n")
  with pytest.raises(InputError, match="three"):
    forecasts.supervised(config, KNOWN)
  rows = [{"prompt": "1+2=", "completion": answer} for answer in [""] * 250 + ["3"]]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  assert forecasts.supervised(config, KNOWN).examples == 251  # the stage leaves empty answers out


def test_a_target_answers_and_its_judge_reads_twice(tmp_path):
  save_model(tmp_path / "model", 0)
  config = small(tiny_dapo, steps=5, rollout__groups=4, rollout__group_size=2)
  config.target = attacker_sections.target()
  config.target.update(path=str(tmp_path / "model"), budget=30, max_prompt_length=8, max_new_tokens=24)
  found = forecasts.policy_gradient(config, KNOWN)
  config.target.judge = attacker_sections.target_judge()
  config.target.judge.path = str(tmp_path / "model")
  judged = forecasts.policy_gradient(config, KNOWN)
  question = config.target.judge.question
  read = ASKED + ANSWERED + sum(len(question[name].split()) for name in ("text", "complies", "refuses"))
  model = KNOWN.model(config.target.judge).model
  cost = flops.forward(model, tokens=60 * read, pairs=60 * flops.causal(read), logits=60)
  assert judged.sampling_flops - found.sampling_flops == pytest.approx(cost)
  assert judged.generated == found.generated == (40 + 30) * ANSWERED


def test_a_judge_draws_and_reads_its_judgements():
  config = small(tiny_generative_grpo, steps=5, rollout__groups=4, rollout__group_size=2, judge__votes=3)
  found, once = forecasts.policy_gradient(config, KNOWN), forward(config, 20, 2)
  # Half of the limits of 48 and 16 tokens; each of the 40 answers has three judgements.
  model = KNOWN.model(config.model).model
  judged = group_pass(model, prompts=40, prompt_length=24, answers=3, answer_length=8).flops
  assert (found.generated, found.trained) == (40 * ANSWERED + 120 * 8, 40 * ANSWERED)
  assert (found.sampling_flops, found.training_flops) == (once + 2 * judged, 4 * once)
  collection = small(tiny_collect, prompts__per_difficulty=2, rollout__samples=8)
  collection.judge = config.judge
  found = forecasts.collection(collection, KNOWN)
  assert found.generated == 96 * ANSWERED + 96 * 3 * 8 and found.examples == 12


def test_collections():
  config = small(tiny_collect, prompts__per_difficulty=2, rollout__samples=8)
  found = forecasts.collection(config, KNOWN)
  assert (found.examples, found.generated, found.sampling_flops) == (12, 96 * ANSWERED, forward(config, 12, 8))
  assert found.rows == {"demonstrations.jsonl": 12, "pairs.jsonl": 12}
  distilled = forecasts.collection(small(tiny_distillation, prompts__per_difficulty=2), KNOWN)
  assert distilled.rows["demonstrations.jsonl"] == 2 * distilled.examples > 0
  edited = forecasts.collection(small(tiny_edited, edited__per_difficulty=2), KNOWN)
  assert (edited.examples, edited.generated, edited.rows["pairs.jsonl"]) == (12, 0, 36)


def test_evaluations():
  config = evaluation.measurement(small(tiny_sft))
  config.eval.sets.heldout.prompts.per_difficulty = 2
  found = forecasts.evaluation(config, KNOWN)  # eight samples and a greedy answer
  assert (found.examples, found.generated, found.sampling_flops) == (12, 12 * 9 * ANSWERED, forward(config, 12, 9))


def test_an_average_costs_nothing_and_is_like_its_models():
  config = average.models("a")
  assert forecasts.nothing(config, KNOWN) == Effort()
  config.models.a.path = "Qwen2.5-7B"
  assert forecasts.model_of(config, KNOWN).model.num_layers == 28
  assert forecasts.model_of(small(tiny_sft), KNOWN).model.num_layers == 2


@pytest.mark.parametrize("module", [tiny_sft, tiny_reward_model, tiny_dpo])
def test_epochs_become_steps(module):
  estimate = {tiny_sft: forecasts.supervised, tiny_reward_model: forecasts.reward_model}.get(
    module, forecasts.preference_optimization
  )
  changes = {"demonstrations__per_difficulty": 5} if module is tiny_sft else {"preferences__per_difficulty": 5}
  once, twice = (estimate(small(module, steps=0, epochs=epochs, batch_size=1, **changes), KNOWN) for epochs in (1, 3))
  assert 1.5 * once.training_flops < twice.training_flops <= 3.01 * once.training_flops
