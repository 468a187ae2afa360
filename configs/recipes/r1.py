"""Makes a reasoner in stages, as R1 (2501.12948) does, in the assistant world.

    python -m experiments.recipe --recipe=configs/recipes/r1.py --workdir=runs/r1
    python -m experiments.recipe --recipe=configs/recipes/r1.py:smollm2 --workdir=runs/r1_smollm2
    python -m experiments.recipe --recipe=configs/recipes/r1.py:paper

`zero` is R1-Zero: RL from the base model on sums, with rewards for the right answer and for written work. Then:

    cold        the base model after a few worked answers that people wrote: a thought with a check, then a summary
    reasoning   RL from `cold` on sums; the share of the asked language among an answer's words is a reward, too
    mixed       the same without this reward, to see what it costs
    chosen      right answers of `reasoning` in form and in one language
    sft         the base model after two epochs on `chosen` and on a third as many answers to other requests
    r1          RL from `sft` on all kinds of requests: rules judge sums, a preference model judges the rest. It sees
                the summary of an answer, and all of it where harm is asked for
    distilled   a smaller base model after SFT on the data of `sft`
    small_zero  the smaller base model after the RL of `zero`

`curves` has accuracy, length, mixing and checks over the steps of RL, and `gains` what each stage adds.
docs/results/recipes.md has the results.

`worked.permuted` and `comparisons.shuffled` break the signal of the cold start and of the preference model.

`:smollm2` takes the cold start and three steps of reasoning RL from SmolLM2-135M-Instruct, on worked solutions
such as GSM8K's: --config.solutions.path=FILE.

`:paper` has the paper's numbers (configs/recipes/r1_paper.py) and is compiled, not run. The largest dense model here,
Qwen2.5-32B, stands for DeepSeek-V3-Base and Qwen2.5-7B for the distilled models.
"""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.recipes import assistant, gates, measuring, r1_paper, reasoning, smollm2
from configs.recipes.costs import started
from posttrain_jax.recipes import curves, joining, worked_solutions
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import COLLECT, CURVES, GRPO, REWARD_MODEL, SFT, function

Source = Output | str  # what an earlier stage makes, or a path or name
_AS_ASKED = "{prompt}"  # rows of a collection have their prompts in the template already
_WORKED = function(
  worked_solutions.write,
  worked_solutions.DEMONSTRATIONS,
  check=worked_solutions.check,
  forecast=worked_solutions.forecast,
)
# What `gains` compares: (name, before, after).
COMPARED = (
  ("zero_over_base", "base", "zero"),
  ("cold_over_base", "base", "cold"),
  ("cold_start", "zero", "reasoning"),
  ("reasoning_over_cold", "cold", "reasoning"),
  ("language_consistency", "mixed", "reasoning"),
  ("sft_over_reasoning", "reasoning", "sft"),
  ("r1_over_sft", "sft", "r1"),
  ("distilled_over_small_zero", "small_zero", "distilled"),
  ("distilled_over_r1", "r1", "distilled"),
)
# Stages whose losses may have bounds, and the models from which these are counted.
_GATED = {"zero": "base", "cold": "base", "reasoning": "cold", "sft": "reasoning", "r1": "sft"}
# What is shown over the steps of RL.
METRICS = {
  "accuracy/mean": "accuracy",
  "length/mean": "tokens of an answer",
  "reward/language": "share of the asked language",
  "reward/mixed": "answers in both languages",
  "reward/checks": "answers that check themselves",
  "reward/form": "answers in form",
}


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny", "smollm2", "paper")
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.small_base = ""  # PATH of one of half the width; empty: it is built once

  config.sums = assistant.prompts(sum=2000)  # of all RL on sums
  config.worked = assistant.demonstrations(sum=96)  # the cold start's
  config.others = assistant.demonstrations(  # a third as many as `chosen` has
    fact=320, unknown=64, list=16, writing=32, harm=104, build=24, history=64
  )
  for name in ("worked", "others"):
    config[name].author = "reasoner"
  config.compared = assistant.prompts(fact=900, unknown=200, list=18, writing=60, harm=200, build=30, history=120)
  config.asked = assistant.prompts(fact=400, unknown=100, sum=400, list=18, writing=48, harm=120, build=24, history=80)
  for number, name in enumerate(("sums", "compared", "asked"), start=1):
    config[name].round = number
  config.comparisons = assistant.comparisons()
  config.comparisons.update(summaries=True, edits=0.0, pairs=4, round=1, policies=dict(sft=dict(path="")))
  del config.comparisons.samples
  # Each of the next groups is a config of its own, as its program takes it.
  config.zero = reasoning.rl(form="written_work")
  config.cold = reasoning.sft(epochs=14)
  config.reasoning = reasoning.rl(form="thought_form")
  config.reasoning.rewards.functions.language.weight = 1.0
  config.chosen = _chosen()
  config.sft = reasoning.sft(epochs=2)
  config.sft.batch_size = 4
  config.sft.demonstrations.template = _AS_ASKED
  config.answers = assistant.collection()
  config.answers.rollout.update(reasoning.LONGEST, samples=8)
  config.preference = assistant.reward_model()
  config.preference.update(epochs=4, batch_size=32)
  config.preference.preferences.max_answer_length = reasoning.LONGEST["max_new_tokens"] + 1
  config.preference.optimizer.update(learning_rate=2e-3, warmup_updates=5)
  config.r1 = _all_scenarios()
  config.distilled = reasoning.sft(epochs=4)
  config.distilled.demonstrations.template = _AS_ASKED
  config.gates = gates.bounds(*_GATED)  # how much a stage may lose (configs/recipes/gates.py)
  config.measures = measuring.measures(requests=24, samples=4)
  config.measures.measures.update(sums=64, max_new_tokens=reasoning.LONGEST["max_new_tokens"])
  config.curves = curves.of_runs(
    "zero", "reasoning", "mixed", "small_zero", metrics=METRICS, level_of="accuracy/mean", level=0.7
  )
  if arg == "smollm2":
    smollm2.set_r1(config)
  elif arg == "paper":
    r1_paper.set_paper(config)
  return config


def _chosen() -> ConfigDict:
  config = assistant.collection()
  config.rewards.functions = reasoning.functions(
    correct=("sum_accuracy", 1.0), form=("thought_form", 1.0), language=("language_consistency", 1.0)
  )
  config.rollout.update(reasoning.LONGEST, samples=4)
  config.selection.threshold = 3.0  # right, in form, and all in the asked language
  return config


def _all_scenarios() -> ConfigDict:
  config = reasoning.rl(form="thought_form")
  config.steps = 40
  config.rewards.functions.form.weight = 0.0  # lists and stories need no thought
  config.rewards.functions.language.weight = 1.0
  # The preference model judges what the rule for sums abstains on.
  config.scoring.update(unchecked_only=True, summary_after="</think>")
  config.rollout.sampling.temperature = 0.7
  config.objective.kl_coefficient = 0.02
  config.logging.console = ConfigDict({"reward/reward_model": "preference", "accuracy/mean": "sums"})
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  if "solutions" in config:
    return _smollm2(config)
  return _paper(config) if config.topology else _tiny(config)


def _tiny(config: ConfigDict) -> list[Stage]:
  bases, base = assistant.base(config.base)
  smalls, small = assistant.base(config.small_base, width="small")
  data = [assistant.stage(config, name, assistant.PROMPTS) for name in ("sums", "compared", "asked")]
  data += [
    assistant.stage(config, name, assistant.DEMONSTRATIONS, labels="demonstration") for name in ("worked", "others")
  ]
  files = {stage.name: stage.file(stage.run.files[0]) for stage in data}
  made = _methods(config, base, small, files)
  models = {"base": base} | {stage.name: stage.model for stage in made if stage.run in (SFT, GRPO)}
  own = seeded(config.measures, config.seed)
  measured = {
    name: measuring.measured(name, model, own, small if name in ("distilled", "small_zero") else base)
    for name, model in models.items()
  }
  stages = [*bases, *smalls, *data, measured["base"]]
  for stage in made:
    stages += [stage, measured[stage.name]] if stage.name in measured else [stage]
  runs = {f"runs.{stage.name}.path": stage.file("metrics.jsonl") for stage in made if stage.name in config.curves.runs}
  stages.append(Stage("curves", run=CURVES, config=config.curves, inputs=runs))
  stages.append(measuring.compared(COMPARED, measured, config.seed))
  return gates.gated(stages, _GATED, measured, config)


def _smollm2(config: ConfigDict) -> list[Stage]:
  """Returns the cold start, and RL on the problems of the same file."""
  worked = Stage("worked", run=_WORKED, config=seeded(config.solutions, config.seed), labels="demonstration")
  file = worked.file(worked_solutions.DEMONSTRATIONS)
  cold = assistant.stage(config, "cold", SFT, {"model.path": config.base, "demonstrations.path": file})
  problems = {"prompts.path": config.solutions.path}
  return [worked, cold, _on_problems(config, "reasoning", "reasoning", cold.model, problems)]


def _paper(config: ConfigDict) -> list[Stage]:
  """Returns the methods with files of people's problems, prompts, demonstrations and comparisons."""
  files = {name: f"{name}.jsonl" for name in ("sums", "asked", "worked", "others", "comparisons")}
  labels = {"cold": "demonstration", "preference": "comparison"}
  return [
    dataclasses.replace(
      stage,
      labels=labels.get(stage.name, ""),
      rows={field: r1_paper.ROWS[given] for field, given in stage.inputs.items() if given in r1_paper.ROWS},
    )
    for stage in _methods(config, config.base, config.small_base, files)
  ]


def _methods(config: ConfigDict, base: Source, small: Source, files: Mapping[str, Source]) -> list[Stage]:
  """Returns the stages from R1-Zero to distillation."""
  sums = {"prompts.path": files["sums"]}
  zero = _on_problems(config, "zero", "zero", base, sums)
  cold = assistant.stage(config, "cold", SFT, {"model.path": base, "demonstrations.path": files["worked"]})
  reasoner = _on_problems(config, "reasoning", "reasoning", cold.model, sums)
  mixed = _on_problems(config, "mixed", "reasoning", cold.model, sums, languages=False)
  chosen = assistant.stage(config, "chosen", COLLECT, {"model.path": reasoner.model, **sums})
  rows = {"reasoning": chosen.file("demonstrations.jsonl"), "others": files["others"]}
  joined = assistant.joined("joined", rows, raw=["others"])
  data = {"demonstrations.path": joined.file(joining.ROWS)}
  sft = assistant.stage(config, "sft", SFT, {"model.path": base, **data})
  answers, comparisons = _compared(config, sft, files)
  preference = assistant.stage(
    config, "preference", REWARD_MODEL, {"model.path": sft.model, "preferences.path": comparisons}
  )
  inputs = {"model.path": sft.model, "prompts.path": files["asked"], "reward_model": preference.model}
  r1 = assistant.stage(config, "r1", GRPO, inputs)
  distilled = assistant.stage(config, "distilled", SFT, {"model.path": small, **data})
  # The paper's models are sharded by their size, so RL on the smaller one has a section of its own there.
  small_zero = _on_problems(config, "small_zero", "small_zero" if "small_zero" in config else "zero", small, sums)
  return [zero, cold, reasoner, mixed, chosen, joined, sft, *answers, preference, r1, distilled, small_zero]


def _compared(config: ConfigDict, sft: Stage, files: Mapping[str, Source]) -> tuple[list[Stage], Source]:
  """Returns the stages of comparisons, and the comparisons.

  There are no stages if a file has them.
  """
  if "comparisons" in files:
    return [], files["comparisons"]
  answers = assistant.stage(config, "answers", COLLECT, {"model.path": sft.model, "prompts.path": files["compared"]})
  inputs = {"policies.sft.path": answers.file("candidates")}
  compared = assistant.stage(config, "comparisons", assistant.COMPARISONS, inputs, labels="comparison")
  return [answers, compared], compared.file("comparisons.jsonl")


def _on_problems(
  config: ConfigDict, name: str, section: str, model: Source, inputs: Mapping[str, Source], *, languages: bool = True
) -> Stage:
  """Returns a stage of RL on problems.

  Without `languages` the share of the asked language is no reward.
  """
  own = seeded(config[section], config.seed).unlock()
  if not languages:
    own.rewards.functions.language.weight = 0.0
  return Stage(name, run=GRPO, config=own.lock(), inputs={"model.path": model, **inputs})
