"""Tests that with a broken signal the gain of a stage is gone."""

import dataclasses
import json

import pytest

from configs.recipes import assistant
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import TEMPLATE, RequestKind
from posttrain_jax.recipes import assistant_data
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import DPO, REWARD_MODEL, SFT, function
from tests.data.assistant_world.small_world import SETTINGS, WORLD
from tests.recipes.made_recipe import run

KINDS = dict(fact=120, sum=60, harm=24, build=12, writing=12)


def candidates(config, folder):
  """Writes answers to requests: one of a careful author and three of the crowd."""
  (folder / "candidates").mkdir()
  writer, lines = AnswerWriter(WORLD, config.seed), []
  for kind, count in KINDS.items():
    for request in draw_requests(WORLD, RequestKind(kind), RequestPart.TRAIN, count, seed=config.seed):
      texts = [writer.answer(request, author) for author in (Author.CAREFUL, *[Author.CROWD] * 3)]
      row = {name: value for name, value in request.to_row().items() if name != "prompt"}
      asked = TEMPLATE.format(prompt=request.text)
      lines.append(json.dumps({"prompt": asked, "answers": texts, "scores": [0.0] * 4, "row": row}))
  (folder / "candidates" / "000000.jsonl").write_text("\n".join(lines) + "\n")


def of_small_world(config):
  config.world = dataclasses.asdict(SETTINGS)
  return config


def stages():
  plain = assistant.assistant_base.get_config()
  del plain.base
  plain.demonstrations.corpus.update(documents=6000)
  plain.demonstrations.corpus.world = dataclasses.asdict(SETTINGS)
  plain.steps = 300
  base = Stage("base", run=SFT, config=plain)
  measures = assistant.measures(requests=24, samples=2)
  measures.measures.world = dataclasses.asdict(SETTINGS)
  measured = {"base": assistant.measured("base", base.model, measures, base.model)}
  written = Stage("written", run=function(candidates, "candidates"), config=plain)
  found = [base, measured["base"], written]

  def trained(name, runner, config, field, start, data):
    return Stage(name, run=runner, config=config, inputs={"model.path": start.model, field: data})

  sft, reward, dpo = assistant.sft(), assistant.reward_model(), assistant.dpo()
  sft.steps = 150
  reward.epochs, dpo.epochs, reward.batch_size, dpo.batch_size = 6, 3, 32, 32
  reward.preferences.held_out = 0.25
  reward.preferences.max_answer_length = dpo.preferences.max_answer_length = 96
  dpo.optimizer.learning_rate = 3e-4
  for broken in (False, True):
    end = "_broken" * broken
    config = of_small_world(assistant.demonstrations(**KINDS))
    config.permuted = broken
    data = Stage(f"data{end}", run=assistant.DEMONSTRATIONS, config=config)
    model = trained(f"sft{end}", SFT, sft, "demonstrations.path", base, data.file(assistant_data.DEMONSTRATIONS))
    config = of_small_world(assistant.comparisons())
    del config.samples
    config.update(shuffled=broken, round=1, policies=dict(people=dict(path="")))
    inputs = {"policies.people.path": written.file("candidates")}
    pairs = Stage(f"pairs{end}", run=assistant.COMPARISONS, config=config, inputs=inputs)
    file = pairs.file(assistant_data.COMPARISONS)
    rewarded = trained(f"reward{end}", REWARD_MODEL, reward, "preferences.path", base, file)
    found += [data, model, pairs, rewarded]
    preferred = trained(
      f"dpo{end}", DPO, dpo, "preferences.path", next(each for each in found if each.name == "sft"), file
    )
    found.append(preferred)
    for each in (model, preferred):
      measured[each.name] = assistant.measured(each.name, each.model, measures, base.model)
      found.append(measured[each.name])
  pairs = [(name, "base" if "sft" in name else "sft", name) for name in measured if name != "base"]
  return [*found, assistant.compared(pairs, measured, 0)]


@pytest.mark.slow  # trains seven models, some minutes
def test_with_a_broken_signal_the_gain_is_gone(tmp_path):
  result = run(stages(), tmp_path)
  metrics = {each["name"]: each["metrics"] for each in result["stages"]}
  gains = metrics["gains"]
  # Answers permuted across prompts: a model learns to say something, and not to answer.
  for measure, least in (("seen/answers", 0.3), ("seen/sums_worked", 0.3), ("seen/rated", 0.5)):
    assert gains[f"sft/{measure}/low"] > least, measure
    assert gains[f"sft_broken/{measure}/high"] < least / 2, measure
  # Labels shuffled: nothing tells the better answer, and DPO does not raise what the rater likes.
  accuracy = {name: metrics[name]["eval/heldout/accuracy"] for name in ("reward", "reward_broken")}
  assert accuracy["reward"] > 0.75 and abs(accuracy["reward_broken"] - 0.5) < 0.12
  assert gains["dpo/seen/rated/low"] > 0 and gains["dpo_broken/seen/rated/low"] < 0.05
