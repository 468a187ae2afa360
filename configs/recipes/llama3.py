"""Makes an assistant in rounds, as Llama 3 (2407.21783, section 4) does, in the assistant world.

    python -m experiments.recipe --recipe=configs/recipes/llama3.py --workdir=runs/llama3 [--config.rounds=6]
    python -m experiments.recipe --recipe=configs/recipes/llama3.py:smollm2 --workdir=runs/llama3_smollm2
    python -m experiments.recipe --recipe=configs/recipes/llama3.py:paper

A crowd's demonstrations make the first model. Then each round has these stages, with its number at their names:

    prompts      new prompts
    by_MODEL     answers of several models to them: the best so far, and both DPO models of the round before
    comparisons  people compare answers of two models, in four strengths, and edit some
    reward       a reward model from the base model, on the comparisons of all rounds, upper two strengths only
    chosen       the best of K answers of the best model so far, by the reward model
    sft          the average of two models from the base model: `sft_chosen` on these answers, and `sft_joined` on them
                 and people's edits of all rounds, with a lower rate
    dpo          the average of two models from `sft`: `dpo_latest` on the round's comparisons, and `dpo_joined` on
                 those of the round before, too, with a lower rate
    best         the best of the first model and all `sft` and `dpo` so far, as the first rater finds on requests that
                 are not held out

`gains` says what each stage and each round gained and lost. docs/results/recipes.md has the results.

`:smollm2` has one round of a few steps from SmolLM2-135M-Instruct, with the world in English and with public data
(configs/recipes/smollm2.py).

`:paper` has the paper's numbers and is compiled, not run. The largest dense model here, Qwen2.5-32B, stands for Llama
3.1 405B. The paper gives neither batch sizes nor lengths nor the reward model's rate: those are ours.
"""

import dataclasses

from ml_collections import ConfigDict

from configs.recipes import assistant, gates, measuring, public_data, smollm2
from configs.recipes.costs import started
from posttrain_jax.recipes import average, choice, joining
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import AVERAGE, CHOOSE, COLLECT, DPO, REWARD_MODEL, SFT
from posttrain_jax.types import InputError

Source = Output | str  # what an earlier stage makes, or a path or name
_AS_ASKED = "{prompt}"  # rows that come from a collection have their prompts in the template already


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny", "smollm2", "paper")
  config.rounds = 3  # the paper has six
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.topology = ""  # a run
  config.demonstrations = assistant.demonstrations(  # what people write before the first round
    fact=120, unknown=48, sum=96, list=16, writing=32, harm=48, build=16, history=24
  )
  config.demonstrations.author = "crowd"
  config.prompts = assistant.prompts(  # of each round
    fact=200, unknown=80, sum=200, list=16, writing=48, harm=96, build=32, history=64
  )
  config.comparisons = assistant.comparisons()
  config.samples = 10  # K of rejection sampling; 10 to 30 in the paper
  config.lower = 0.5  # learning rate of the joined variants, as a share of the others'
  config.dpop = 0.0  # penalty of DPOP, which the paper does not have; 0: DPO
  # Each of the next groups is a config of its own, as its program takes it.
  config.first = assistant.sft()
  config.first.steps = 120
  config.collect = assistant.collection()
  config.reward_model = assistant.reward_model()
  config.reward_model.epochs, config.reward_model.batch_size = 4, 32
  config.reward_model.optimizer.update(learning_rate=2e-3, warmup_updates=5)
  config.sft = assistant.sft()
  config.sft.steps = 500
  config.sft.demonstrations.template = _AS_ASKED
  for name in ("first", "sft"):
    config[name].batch_size = 8
  config.dpo = assistant.dpo()
  config.dpo.epochs, config.dpo.batch_size = 1, 32
  config.dpo.optimizer.update(learning_rate=3e-5, warmup_updates=5)  # with 1e-4 answers do not end: ends do not count
  config.measures = measuring.measures(requests=24, samples=2)
  config.gates = gates.bounds("first", "sft", "dpo")  # how much a stage may lose (configs/recipes/gates.py)
  if arg == "smollm2":
    smollm2.set_llama3(config)
  elif arg == "paper":
    _set_paper(config)
  return config


def _set_paper(config: ConfigDict) -> None:
  config.rounds, config.base, config.topology, config.samples = 6, "Qwen2.5-32B", "v5p:4x4x8", 30
  for name in ("first", "sft", "reward_model", "dpo"):
    assistant.shard(config[name])
  assistant.shard(config.collect, tensor=8)
  for name in ("first", "sft"):
    config[name].steps, config[name].batch_size = 9000, 128
    config[name].logprob_chunk = 1024
    config[name].demonstrations.update(template=_AS_ASKED, chat=True, row_length=8192)
    config[name].optimizer.update(learning_rate=1e-5)
  for name in ("reward_model", "dpo"):
    config[name].batch_size = 128
    config[name].optimizer.learning_rate = 1e-5
    config[name].preferences.update(chat=True, max_prompt_length=2048, max_answer_length=2048)
    config[name].epochs = 1
  config.dpo.objective.logprob_chunk = 1024
  config.collect.prompts.update(template=_AS_ASKED, chat=True)
  config.collect.rollout.update(max_prompt_length=2048, max_new_tokens=2048, slots=512)


def get_stages(config: ConfigDict) -> list[Stage]:
  return _paper(config) if config.topology else _tiny(config)


def _tiny(config: ConfigDict) -> list[Stage]:
  if config.rounds < 1:
    raise InputError(f"rounds: {config.rounds}, expected at least 1")
  stages, base = assistant.base(config.base)
  people = Stage(
    "people", run=assistant.DEMONSTRATIONS, config=seeded(config.demonstrations, config.seed), labels="demonstration"
  )
  joined, written = public_data.with_public(config, "seed_tasks", "written", people.file("demonstrations.jsonl"))
  first = _trained(config, "first", SFT, "first", base, written)
  measured = {
    name: measuring.measured(name, model, seeded(config.measures, config.seed), base)
    for name, model in (("base", base), ("first", first.model))
  }
  stages += [people, *joined, first, *measured.values()]
  pairs = [("first_over_base", "base", "first")]
  started, sections = {"first": "base"}, {}
  best, models, compared, asked = first, {"first": first}, [], {"best": first}
  for number in range(1, config.rounds + 1):
    new = _compared_answers(config, number, asked)
    compared.append(new[-1])
    every = {name: [each.file(f"{name}.jsonl") for each in compared] for name in ("comparisons", "edited")}
    made = _round(config, number, base, best.model, new[0].file("prompts.jsonl"), **every)
    stages += [*new, *made.values()]
    for name in (f"sft_{number}", f"dpo_{number}"):
      measured[name] = measuring.measured(name, made[name].model, seeded(config.measures, config.seed), base)
      stages.append(measured[name])
      models[name] = made[name]
    before = f"dpo_{number - 1}" if number > 1 else "first"
    pairs += [
      (f"sft_of_round_{number}", before, f"sft_{number}"),
      (f"dpo_of_round_{number}", f"sft_{number}", f"dpo_{number}"),
      (f"round_{number}", before, f"dpo_{number}"),
    ]
    started |= {f"sft_{number}": before, f"dpo_{number}": f"sft_{number}"}
    sections |= {f"sft_{number}": "sft", f"dpo_{number}": "dpo"}
    best = _best(f"best_{number}", models, measured)
    stages.append(best)
    asked = {"best": best, "latest": made[f"dpo_latest_{number}"], "joined": made[f"dpo_joined_{number}"]}
  pairs.append(("all_rounds", "first", f"dpo_{config.rounds}"))
  answered = {"base": base, "first": first.model, **{name: made[name].model for name in made if name in measured}}
  stages += [*public_data.public_answers(config, answered), measuring.compared(pairs, measured, config.seed)]
  return gates.gated(stages, started, measured, config, sections)


def _compared_answers(config: ConfigDict, number: int, models: dict[str, Stage]) -> list[Stage]:
  """Returns the stages of new prompts, of answers to them, and of comparisons."""
  own = seeded(config.prompts, config.seed).unlock()
  own.round = number
  prompts = Stage(f"prompts_{number}", run=assistant.PROMPTS, config=own)
  collections = {}
  for name, model in models.items():
    answers = seeded(config.collect, config.seed).unlock()
    answers.rollout.samples = config.comparisons.samples
    collections[name] = Stage(
      f"by_{name}_{number}",
      run=COLLECT,
      config=answers,
      inputs={"model.path": model.model, "prompts.path": prompts.file("prompts.jsonl")},
    )
  own = seeded(config.comparisons, config.seed).unlock()
  own.round, own.policies = number, {name: dict(path="") for name in models}
  del own.samples
  comparisons = Stage(
    f"comparisons_{number}",
    run=assistant.COMPARISONS,
    config=own,
    inputs={f"policies.{name}.path": each.file("candidates") for name, each in collections.items()},
    labels="comparison",
  )
  return [prompts, *collections.values(), comparisons]


def _round(
  config: ConfigDict,
  number: int,
  base: Source,
  best: Source,
  prompts: Source,
  comparisons: list[Source],
  edited: list[Source],
) -> dict[str, Stage]:
  """Returns the stages of a round by name, from its reward model to its DPO."""
  every = {f"round_{i}": each for i, each in enumerate(comparisons, start=1)}
  kept = assistant.joined(f"kept_{number}", every)
  public, pairs = public_data.with_public(config, "harmless", f"compared_{number}", kept.file(joining.ROWS))
  reward = _trained(config, f"reward_{number}", REWARD_MODEL, "reward_model", base, pairs)
  own = seeded(config.collect, config.seed).unlock()
  own.rollout.samples = config.samples
  inputs = {"model.path": best, "prompts.path": prompts, "reward_model": reward.model}
  answers = Stage(f"chosen_{number}", run=COLLECT, config=own, inputs=inputs)
  chosen = answers.file("demonstrations.jsonl")
  edits = {f"round_{i}": each for i, each in enumerate(edited, start=1)} if config.comparisons.edits else {}
  demonstrations = assistant.joined(f"demonstrations_{number}", {"chosen": chosen, **edits})
  latest = assistant.joined(f"latest_{number}", dict(list(every.items())[-2:]))
  alone = _trained(config, f"sft_chosen_{number}", SFT, "sft", base, chosen)
  joined = _trained(config, f"sft_joined_{number}", SFT, "sft", base, demonstrations.file(joining.ROWS), config.lower)
  sft = _average(f"sft_{number}", alone, joined)
  stages = [kept, *public, reward, answers, demonstrations, alone, joined, sft, latest]
  one = _trained(config, f"dpo_latest_{number}", DPO, "dpo", sft.model, comparisons[-1])
  other = _trained(config, f"dpo_joined_{number}", DPO, "dpo", sft.model, latest.file(joining.ROWS), config.lower)
  return {stage.name: stage for stage in [*stages, one, other, _average(f"dpo_{number}", one, other)]}


def _trained(config: ConfigDict, name: str, run, section: str, model: Source, data: Source, rate: float = 1.0) -> Stage:
  """Returns a stage that trains a model on data, with a share of the learning rate."""
  own = seeded(config[section], config.seed).unlock()
  own.optimizer.learning_rate *= rate
  if config.dpop and run is DPO:
    own.objective.loss = "dpop"
    own.objective.options.penalty = config.dpop
  field = "demonstrations.path" if run is SFT else "preferences.path"
  return Stage(name, run=run, config=own, inputs={"model.path": model, field: data})


def _average(name: str, one: Stage, other: Stage) -> Stage:
  inputs = {"models.one.path": one.model, "models.other.path": other.model}
  return Stage(name, run=AVERAGE, config=average.models("one", "other"), inputs=inputs)


def _best(name: str, models: dict[str, Stage], measured: dict[str, Stage]) -> Stage:
  inputs = {f"models.{model}.path": stage.model for model, stage in models.items()}
  inputs |= {f"models.{model}.measures": measured[model].file("metrics.jsonl") for model in models}
  return Stage(name, run=CHOOSE, config=choice.models("seen/rated", *models), inputs=inputs)


def _paper(config: ConfigDict) -> list[Stage]:
  """Returns the rounds with files of people's prompts, comparisons and demonstrations."""
  best = _trained(config, "first", SFT, "first", config.base, "demonstrations.jsonl")
  best = dataclasses.replace(best, labels="demonstration")
  stages, comparisons, edited = [best], [], []
  for number in range(1, config.rounds + 1):
    comparisons.append(f"comparisons_{number}.jsonl")
    edited.append(f"edited_{number}.jsonl")
    made = _round(config, number, config.base, best.model, f"prompts_{number}.jsonl", comparisons, edited)
    latest = f"dpo_latest_{number}"
    made[latest] = dataclasses.replace(made[latest], labels="comparison")
    stages += made.values()
    best = made[f"dpo_{number}"]
  return stages
