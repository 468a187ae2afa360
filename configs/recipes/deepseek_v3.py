"""Post-trains a model as DeepSeek-V3 (2412.19437, section 5) does, in the assistant world.

    python -m experiments.recipe --recipe=configs/recipes/deepseek_v3.py --workdir=runs/deepseek_v3
    python -m experiments.recipe --recipe=configs/recipes/deepseek_v3.py:paper

An expert for reasoning comes first, and the final model after it:

    reasoner      the base model after SFT on worked answers with checks; its answers are long
    reflective    both kinds of samples: each problem with its original answer, which works it out once, and the
                  system prompt and the problem with the reasoner's answer
    unprompted    the reasoner's answers to 64 of the 640 problems without the system prompt
    expert_sft    the base model after SFT on all of these
    expert        RL from it at a high temperature without the system prompt, until it checks its work without it
    chosen        the shortest right answers of the expert that think first
    chat          an earlier chat model: the base model after SFT on a crowd's answers and on people's refusals
    accepted      answers of `chat` to other requests that pass a check by people, who are rules here
    sft           the base model after two epochs on `chosen` and `accepted`, with a cosine
    judge         a generative reward model from `sft`, on judgements with their reasons
    v3            GRPO from `sft`: rules judge sums, and `judge` all else, both in one batch
    scalar        the same with a reward model that gives a number without reasons

`curves` has the expert's RL over its steps, `distances` what `v3` and `scalar` earned at equal KL by the rules that
neither was trained on, and `gains` what each stage adds. Accuracy against conciseness are the measures `sums` and
`sums_length`; `prompted_measures` are of `expert_sft` with the system prompt. docs/results/recipes.md has the results.

Deviations. A check costs tokens here and finds few mistakes: RL for right answers lets it die out, as r1 shows. So the
reasoner is made by SFT, and the expert's RL rewards the steps of a check that are right. With the two kinds of samples
alone, one answer of seventy checks itself without the system prompt, and RL loses even these; `unprompted` lets one of
twenty do so. A reward for every check, right or wrong, was hacked: the policy said that it checks and got nearly all
sums wrong. The original answers think, too: else the system prompt alone decides whether the model thinks. RL ends
after a fixed number of steps, by when most answers check themselves.

Judgements are by the rater without its noise, as its reasons say all that the score follows from. The reward model of
`scalar` learns from the same answers: pairs in the order of these scores, without the reasons. `judgements.permuted`
breaks the signal of both.

`--config.reasoner=PATH` takes a reasoner in place of the stage `reasoner`. With `--config.self_rewarding` the policy
judges its own answers: `sft` learns judgements of `chat`'s answers, too, and `v3` takes the mean of several votes.

`:paper` has the paper's numbers (configs/recipes/deepseek_v3_paper.py) and is compiled, not run.
"""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.recipes import (
  assistant,
  deepseek_v3_paper,
  deepseek_v3_rewards,
  deepseek_v3_sections,
  gates,
  generative_judge,
  measuring,
  reasoning,
)
from configs.recipes.costs import started
from posttrain_jax.recipes import curves, equal_distance, joining, picking
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import COLLECT, CURVES, GRPO, SFT

Source = Output | str  # what an earlier stage makes, or a path or name
_AS_ASKED = "{prompt}"  # rows of a collection have their prompts in the template already
# What `gains` compares: (name, before, after).
COMPARED = (
  ("expert_sft_over_reasoner", "reasoner", "expert_sft"),
  ("expert_over_expert_sft", "expert_sft", "expert"),
  ("expert_over_reasoner", "reasoner", "expert"),
  ("sft_over_expert", "expert", "sft"),
  ("sft_over_chat", "chat", "sft"),
  ("v3_over_sft", "sft", "v3"),
  ("v3_over_reasoner", "reasoner", "v3"),
  ("scalar_over_sft", "sft", "scalar"),
  ("v3_over_scalar", "scalar", "v3"),
)
# Stages whose losses may have bounds (configs/recipes/gates.py), and the models from which these are counted.
_GATED = {"expert": "expert_sft", "sft": "chat", "v3": "sft", "scalar": "sft"}
# What is shown over the steps of the expert's RL.
METRICS = {
  "accuracy/mean": "accuracy",
  "length/mean": "tokens of an answer",
  "reward/form": "answers in form",
  "reward/checks": "answers that check themselves",
}


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny", "paper")
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.reasoner = ""  # PATH of a reasoner of the world; empty: it is made from the base model
  config.self_rewarding = False  # True: the policy judges its own answers

  config.worked = assistant.demonstrations(sum=320)  # the reasoner's
  config.worked.author = "reasoner"
  config.problems = assistant.demonstrations(sum=640)  # with their original answers: work without a check
  config.problems.author = "solver"
  config.people = assistant.demonstrations(fact=320, unknown=128, list=18, writing=64, build=32, history=64)
  config.people.author = "crowd"
  config.refusals = assistant.demonstrations(harm=48)
  config.sums = assistant.prompts(sum=2000)  # of all RL on sums, and of `chosen`
  config.requests = assistant.prompts(fact=640, unknown=192, list=18, writing=96, harm=208, build=48, history=128)
  config.compared = assistant.prompts(fact=400, unknown=120, list=18, writing=48, harm=160, build=24, history=96)
  config.asked = assistant.prompts(fact=400, unknown=100, sum=400, list=18, writing=48, harm=120, build=24, history=80)
  for number, name in enumerate(("sums", "requests", "compared", "asked"), start=1):
    config[name].round = number
  config.judgements = generative_judge.judgements()
  # Each of the next groups is a config of its own, as its program takes it.
  config.reasoner_sft = reasoning.sft(epochs=8)
  config.reflective = deepseek_v3_sections.reflective()
  config.unprompted = deepseek_v3_sections.unprompted()
  config.expert_sft = reasoning.sft(epochs=8)
  config.expert = deepseek_v3_sections.expert()
  config.chosen = deepseek_v3_sections.chosen()
  config.chat = assistant.sft()
  config.chat.update(steps=0, epochs=8, batch_size=8)
  config.accepted = assistant.collection()
  config.accepted.rewards.functions = reasoning.functions(correct=("accuracy", 0.0), passes=("acceptable", 1.0))
  config.accepted.rollout.samples = 8
  config.accepted.selection.update(threshold=1.0, keep=4)
  config.sft = reasoning.sft(epochs=2)
  config.sft.batch_size = 4
  config.sft.optimizer.end_fraction = 0.2  # the paper's cosine falls to a fifth
  config.answers = assistant.collection()
  config.answers.rollout.update(samples=8, max_new_tokens=64)  # as RL draws them
  config.judge = generative_judge.generative_reward()
  config.judge.steps = 500
  config.judge.eval.every = config.judge.checkpoint.every = 250
  config.asking = generative_judge.judge()  # how RL asks the judge
  # A prompt with an answer of 64 tokens, and the words around them.
  config.judge.eval.max_prompt_length = config.asking.max_prompt_length = 112
  config.preference = assistant.reward_model()
  config.preference.update(epochs=4, batch_size=32)
  config.preference.preferences.update(strengths=(), max_answer_length=65)
  config.preference.optimizer.update(learning_rate=2e-3, warmup_updates=5)
  config.v3 = deepseek_v3_sections.all_scenarios()
  for name in ("expert_sft", "sft"):
    config[name].demonstrations.template = _AS_ASKED
  config.gates = gates.bounds(*_GATED)
  config.measures = measuring.measures(requests=24, samples=4)
  config.measures.measures.update(sums=64, max_new_tokens=reasoning.LONGEST["max_new_tokens"])
  config.curves = curves.of_runs("expert", metrics=METRICS, level_of="reward/checks", level=0.5)
  config.distances = equal_distance.of_runs("v3", "scalar")
  if arg == "paper":
    deepseek_v3_paper.set_paper(config)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  return _paper(config) if config.topology else _tiny(config)


def _tiny(config: ConfigDict) -> list[Stage]:
  bases, base = assistant.base(config.base)
  data = [assistant.stage(config, name, assistant.PROMPTS) for name in ("sums", "requests", "compared", "asked")]
  data += [
    assistant.stage(config, name, assistant.DEMONSTRATIONS, labels="" if name == "problems" else "demonstration")
    for name in ("worked", "problems", "people", "refusals")
  ]
  files = {stage.name: stage.file(stage.run.files[0]) for stage in data}
  reasoners, reasoner = _reasoner(config, base, files)
  made = [*reasoners, *_methods(config, base, reasoner, files)]
  models = {"base": base, "reasoner": reasoner} | {
    stage.name: stage.model for stage in made if stage.run in (SFT, GRPO)
  }
  own = seeded(config.measures, config.seed)
  measured = {name: measuring.measured(name, model, own, base) for name, model in models.items()}
  asked = own.copy_and_resolve_references().unlock()
  asked.system = config.reflective.distillation.system
  prompted = measuring.measured("prompted", models["expert_sft"], asked.lock(), base)
  runs = {stage.name: stage.file("metrics.jsonl") for stage in made if stage.run is GRPO}
  stages = [*bases, *data, measured["base"]]
  for stage in made:
    stages += [stage, measured[stage.name]] if stage.name in measured else [stage]
  if config.reasoner:
    stages.append(measured["reasoner"])
  stages += [
    prompted,
    Stage("curves", run=CURVES, config=config.curves, inputs={"runs.expert.path": runs["expert"]}),
    Stage(
      "distances",
      run=generative_judge.EQUAL_DISTANCE,
      config=config.distances,
      inputs={f"runs.{name}.path": runs[name] for name in config.distances.runs},
    ),
    measuring.compared(COMPARED, measured, config.seed),
  ]
  return gates.gated(stages, _GATED, measured, config)


def _paper(config: ConfigDict) -> list[Stage]:
  """Returns the methods with files of people's problems, prompts, demonstrations, judgements and comparisons."""
  files = {name: f"{name}.jsonl" for name in deepseek_v3_paper.ROWS}
  return [
    dataclasses.replace(
      stage,
      labels=deepseek_v3_paper.LABELS.get(stage.name, stage.labels),
      rows={
        field: deepseek_v3_paper.ROWS[given.removesuffix(".jsonl")]
        for field, given in stage.inputs.items()
        if isinstance(given, str) and given in files.values()
      },
    )
    for stage in _methods(config, config.base, config.reasoner, files)
  ]


def _reasoner(config: ConfigDict, base: Source, files: Mapping[str, Source]) -> tuple[list[Stage], Source]:
  """Returns the stage that makes a reasoner, and the reasoner.

  There is no stage if a path names it.
  """
  if config.reasoner:
    return [], config.reasoner
  inputs = {"model.path": base, "demonstrations.path": files["worked"]}
  reasoner = Stage("reasoner", run=SFT, config=seeded(config.reasoner_sft, config.seed), inputs=inputs)
  return [reasoner], reasoner.model


def _methods(config: ConfigDict, base: Source, reasoner: Source, files: Mapping[str, Source]) -> list[Stage]:
  """Returns the stages from the samples of the reasoner to the final model."""
  reflective = assistant.stage(
    config, "reflective", COLLECT, {"model.path": reasoner, "prompts.path": files["problems"]}
  )
  stages, samples = [reflective], reflective.file("demonstrations.jsonl")
  if "unprompted" in config:
    unprompted = assistant.stage(
      config, "unprompted", COLLECT, {"model.path": reasoner, "prompts.path": files["problems"]}
    )
    both = {"reflective": samples, "unprompted": unprompted.file("demonstrations.jsonl")}
    stages += [unprompted, assistant.joined("samples", both)]
    samples = stages[-1].file(joining.ROWS)
  expert_sft = assistant.stage(config, "expert_sft", SFT, {"model.path": base, "demonstrations.path": samples})
  sums = {"prompts.path": files["sums"]}
  expert = assistant.stage(config, "expert", GRPO, {"model.path": expert_sft.model, **sums})
  chosen = assistant.stage(config, "chosen", COLLECT, {"model.path": expert.model, **sums})
  answered = assistant.joined("answered", {name: files[name] for name in ("people", "refusals")})
  inputs = {"model.path": base, "demonstrations.path": answered.file(joining.ROWS)}
  chat = assistant.stage(config, "chat", SFT, inputs)
  inputs = {"model.path": chat.model, "prompts.path": files["requests"]}
  accepted = assistant.stage(config, "accepted", COLLECT, inputs, labels="check")
  stages += [expert_sft, expert, chosen, answered, chat, accepted]
  data = {"chosen": chosen.file("demonstrations.jsonl"), "accepted": accepted.file("demonstrations.jsonl")}
  if config.self_rewarding:
    learned = deepseek_v3_rewards.own_judgements(config, accepted)
    stages += learned
    data["judged"] = learned[-1].file(picking.ROWS)
  joined = assistant.joined("joined", data)
  inputs = {"model.path": base, "demonstrations.path": joined.file(joining.ROWS)}
  own = seeded(config.sft, config.seed).unlock()
  if config.self_rewarding:
    own.demonstrations.row_length = config.judge.demonstrations.row_length  # else scores are cut off
  sft = Stage("sft", run=SFT, config=own.lock(), inputs=inputs)
  return [*stages, joined, sft, *deepseek_v3_rewards.judged(config, sft, files)]
