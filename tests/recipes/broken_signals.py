"""Trains models with good signals and with broken ones in a small world, and says what each gained.

python -m tests.recipes.broken_signals DIR

A broken signal has the same texts in other places: each request has the answer to another one (SFT), or chance decides
which of two answers is preferred (reward model, DPO). Broken rewards of RL are drawn by chance. The reward model of
chance would not do: PPO climbs what it happens to prefer, which may be better or worse.

DPO, PPO and GRPO start from a model of a crowd's demonstrations, which answers well now and then. DPO compares its
answers, the reward model those of people.
"""

import dataclasses
import json
import pathlib
import random
import sys

from absl import flags

from configs import assistant_base
from configs.recipes import assistant, instructgpt, measuring, r1
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import TEMPLATE, RequestKind
from posttrain_jax.recipes import assistant_data
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import COLLECT, DPO, GRPO, PPO, REWARD_MODEL, SFT, function
from tests.data.assistant_world.small_world import SETTINGS, WORLD
from tests.recipes.made_recipe import run

KINDS = dict(fact=120, sum=60, harm=24, build=12, writing=12)
_MODEL = dict(num_layers=2, embed_dim=64, mlp_dim=160, num_heads=4, num_kv_heads=4, head_dim=16, unroll=2)
_LONGEST = 96  # tokens of an answer; a crowd's may be twice as long as a careful author's


def candidates(config, folder):
  """Writes four answers to each request: one of a careful author and three of the crowd."""
  (folder / "candidates").mkdir()
  writer, lines = AnswerWriter(WORLD, config.seed), []
  for kind, count in KINDS.items():
    for request in draw_requests(WORLD, RequestKind(kind), RequestPart.TRAIN, count, seed=config.seed):
      texts = [writer.answer(request, author) for author in (Author.CAREFUL, *[Author.CROWD] * 3)]
      row = {name: value for name, value in request.to_row().items() if name != "prompt"}
      asked = TEMPLATE.format(prompt=request.text)
      lines.append(json.dumps({"prompt": asked, "answers": texts, "scores": [0.0] * 4, "row": row}))
  (folder / "candidates" / "000000.jsonl").write_text("\n".join(lines) + "\n")


def by_chance(texts, rows):
  """Gives each answer to a prompt a reward of its own, drawn from the standard normal distribution."""
  return [random.Random(f"{row['prompt']}/{text}").gauss(0, 1) for text, row in zip(texts, rows, strict=True)]


def stages():
  """Returns the stages; those with a broken signal have _broken at the end of their names."""
  base = Stage("base", run=SFT, config=base_config())
  written = Stage("written", run=function(candidates, "candidates"), config=base.config)
  asked = Stage("asked", run=assistant.PROMPTS, config=of_small_world(assistant.prompts(**KINDS)))
  measures = of_small_world(measuring.measures(requests=24, samples=2), "measures")
  measures.measures.update(plain=8, sums=64)
  found = {stage.name: stage for stage in (base, written, asked)}

  def add(name, runner, config, measured=False, **inputs):
    given = {field.replace("__", "."): each for field, each in inputs.items()}
    found[name] = Stage(name, run=runner, config=config, inputs=given)
    if measured:
      found[f"{name}_measures"] = measuring.measured(name, found[name].model, measures, base.model)
    return found[name]

  found["base_measures"] = measuring.measured("base", base.model, measures, base.model)
  sft, reward, dpo, ppo, collection = _training()
  people = add("people", assistant.DEMONSTRATIONS, _demonstrations(author="crowd"))
  file = people.file(assistant_data.DEMONSTRATIONS)
  crowd = add("crowd", SFT, sft, measured=True, model__path=base.model, demonstrations__path=file)
  prompts = asked.file(assistant_data.PROMPTS)
  own = add("own", COLLECT, collection, model__path=crowd.model, prompts__path=prompts)
  for broken, end in ((False, ""), (True, "_broken")):
    data = add(f"data{end}", assistant.DEMONSTRATIONS, _demonstrations(permuted=broken))
    file = data.file(assistant_data.DEMONSTRATIONS)
    add(f"sft{end}", SFT, sft, measured=True, model__path=base.model, demonstrations__path=file)
    files = {}
    for name, answers in (("pairs", written), ("own_pairs", own)):
      folder = answers.file("candidates")
      pairs = add(f"{name}{end}", assistant.COMPARISONS, _comparisons(broken), policies__people__path=folder)
      files[name] = pairs.file(assistant_data.COMPARISONS)
    judge = add(f"reward{end}", REWARD_MODEL, reward, model__path=base.model, preferences__path=files["pairs"])
    add(f"dpo{end}", DPO, dpo, measured=True, model__path=crowd.model, preferences__path=files["own_pairs"])
    rollouts = dict(model__path=crowd.model, prompts__path=prompts)
    rules = rewarded_by_chance(_by_rules()) if broken else _by_rules()
    add(f"grpo{end}", GRPO, rules, measured=True, **rollouts)
    rewarded = rewarded_by_chance(ppo) if broken else ppo
    add(f"ppo{end}", PPO, rewarded, measured=True, **rollouts, **({} if broken else dict(reward_model=judge.model)))
  measured = {name.removesuffix("_measures"): stage for name, stage in found.items() if name.endswith("_measures")}
  pairs = [(name, "base" if "sft" in name else "crowd", name) for name in measured if name not in ("base", "crowd")]
  pairs += [(f"{name}_over_broken", f"{name}_broken", name) for name in ("sft", "dpo", "ppo", "grpo")]
  return [*found.values(), measuring.compared(pairs, measured, 0)]


def of_small_world(config, section=""):
  (config[section] if section else config).world = dataclasses.asdict(SETTINGS)
  return config


def base_config():
  config = assistant_base.get_config()
  del config.base
  config.model.update(_MODEL)
  config.steps = 250
  config.demonstrations.corpus.documents = 4000
  of_small_world(config.demonstrations, "corpus")
  config.logging.report = False
  return config


def _demonstrations(**changes):
  config = of_small_world(assistant.demonstrations(**KINDS))
  config.update(changes)
  return config


def _comparisons(shuffled):
  config = of_small_world(assistant.comparisons())
  del config.samples
  config.update(shuffled=shuffled, round=1, edits=0.0, policies=dict(people=dict(path="")))
  return config


def _training():
  """Returns the configs of SFT, reward model, DPO, PPO and a collection."""
  sft, reward, dpo, ppo = assistant.sft(), assistant.reward_model(), assistant.dpo(), instructgpt.get_config().ppo
  sft.steps, sft.batch_size = 100, 8
  sft.optimizer.learning_rate = 2e-3
  for config in (reward, dpo):
    config.update(epochs=2, batch_size=32)
    config.preferences.max_answer_length = _LONGEST
  reward.preferences.strengths = ()
  reward.preferences.held_out = 0.25
  reward.optimizer.learning_rate = 1e-3
  dpo.epochs, dpo.optimizer.learning_rate = 4, 2e-4
  ppo.steps = 40
  ppo.ptx.coefficient = 0.0
  ppo.average.decay = 0.0
  for optimizer in (ppo.optimizer, ppo.value.optimizer):
    optimizer.learning_rate = 3e-4
  collection = assistant.collection()
  collection.rollout.samples = 12
  return sft, reward, dpo, ppo, collection


def _by_rules():
  """Returns the config of GRPO with rewards for right sums and written work."""
  config = r1.get_config().zero
  config.steps = 40
  config.optimizer.learning_rate = 3e-4
  return config


def rewarded_by_chance(given):
  config = given.copy_and_resolve_references().unlock()
  chance = dict(function="tests.recipes.broken_signals:by_chance", weight=1.0, options=dict(), lowest=-4.0)
  config.rewards.functions = dict(correct=config.rewards.functions.correct, chance=chance)
  config.rewards.functions.correct.weight = 0.0  # only logged
  return config


if __name__ == "__main__":
  flags.FLAGS.mark_as_parsed()
  directory = pathlib.Path(sys.argv[1])
  result = run(stages(), directory)
  metrics = {stage["name"]: stage["metrics"] for stage in result["stages"]}
  (directory / "metrics.json").write_text(json.dumps(metrics))
