"""Makes an assistant in three stages, as InstructGPT (2203.02155) does, in the assistant world.

    python -m experiments.recipe --recipe=configs/recipes/instructgpt.py --workdir=runs/instructgpt
    python -m experiments.recipe --recipe=configs/recipes/instructgpt.py:smollm2 --workdir=runs/instructgpt_smollm2
    python -m experiments.recipe --recipe=configs/recipes/instructgpt.py:paper

A careful author's demonstrations make a model that answers (`first`). Then:

    answers       K answers of it to each of many prompts
    rankings      the second rater ranks 4 to 9 of them
    reward        a reward model from `first`, a prompt's pairs in one element; demonstrations average 0
    epochs        16 epochs on the demonstrations, from the base model; the reward model scores each
    sft           the epoch with the best score
    ppo           PPO-ptx from `sft`: the reward model's score less β KL, and text of the corpus in every update
    rlhf          the moving average of PPO's policy

`comparison` has the first rater's choices between answers of `rlhf`, `sft`, the base model, and a base model of twice
the width with examples before each request. `gains` has the differences by measure. docs/results/recipes.md has the
results.

`demonstrations.permuted` and `rankings.shuffled` break the signal of SFT and of what follows, to see what a stage gains
from it.

`:smollm2` takes a few steps from SmolLM2-135M-Instruct, with the world in English and with public data
(configs/recipes/smollm2.py).

`:paper` has the paper's numbers and is compiled, not run. Qwen2.5-7B stands for the 6B model, which is the paper's
reward model, its value model, and one of its three policies.
"""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import assistant_base, ppo_instructgpt, sft_instructgpt, tiny_reward_model, tiny_sft
from configs.recipes import assistant, gates, measuring, public_data, smollm2
from configs.recipes.costs import started
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.recipes import average
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import AVERAGE, COLLECT, PPO, REWARD_MODEL, SFT
from posttrain_jax.types import InputError

Source = Output | str  # what an earlier stage makes, or a path or name
_AS_ASKED = "{prompt}"  # rows of a collection have their prompts in the template already
# What `comparison` and `gains` compare: (name, before, after); wins are those of the model after.
COMPARED = (
  ("sft_over_base", "base", "sft"),
  ("rlhf_over_base", "base", "rlhf"),
  ("rlhf_over_sft", "sft", "rlhf"),
  ("rlhf_over_wide_few_shot", "wide_few_shot", "rlhf"),
  ("sft_over_wide_few_shot", "wide_few_shot", "sft"),
)

# Rows of the paper's files (its table 6); prompts are ranked in 33,207 rankings of 4 to 9 answers.
PAPER = {"demonstrations.jsonl": 12_725, "ranked.jsonl": 33_207, "rankings.jsonl": 33_207, "asked.jsonl": 31_144}


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny", "smollm2", "paper")
  if arg == "paper":
    _set_paper(config)
    return config
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.wide_base = ""  # PATH of one of twice the width; empty: it is built once
  config.demonstrations = assistant.demonstrations(
    fact=160, unknown=64, sum=160, list=12, writing=32, harm=64, build=16, history=48
  )
  # Requests whose answers are ranked, that choose the epoch, and that PPO draws answers to.
  config.ranked = assistant.prompts(
    fact=1200, unknown=250, sum=200, list=18, writing=60, harm=100, build=30, history=120
  )
  config.choosing = assistant.prompts(fact=60, unknown=30, sum=60, list=12, writing=15, harm=30, build=12, history=20)
  config.asked = assistant.prompts(fact=900, unknown=250, sum=200, list=18, writing=60, harm=200, build=24, history=120)
  for number, name in enumerate(("ranked", "choosing", "asked"), start=1):
    config[name].round = number
  config.rankings = assistant.rankings()
  config.documents = assistant.documents(8000)  # for PPO-ptx
  # Each of the next groups is a config of its own, as its program takes it.
  config.first = assistant.sft()
  config.first.update(steps=0, epochs=9, batch_size=8)
  config.answers = assistant.collection()
  config.answers.rollout.samples = config.rankings.most
  config.reward = _reward_model()
  config.epochs = _epochs()
  config.ppo = _ppo()
  config.measures = measuring.measures(requests=32, samples=4)
  config.gates = gates.bounds("sft", "rlhf")  # how much a stage may lose (configs/recipes/gates.py)
  # Kinds of the examples before each request to the wide base model; none: there is no such model.
  config.shots = ("fact", "sum", "harm")
  if arg == "smollm2":
    smollm2.set_instructgpt(config)
  return config


def _reward_model() -> ConfigDict:
  config = assistant.reward_model()
  config.preferences.strengths = ()  # rankings have none
  config.preferences.update(form="ranking", answers=7)  # on average, for the estimate
  config.preferences.held_out = 0.1
  config.batch_size = 16
  config.epochs = 8
  config.optimizer.learning_rate = 2e-3  # with 5e-4 it does not learn which facts are right, and prefers hedges
  config.shift_to_demonstrations = True
  config.demonstrations.update(template=TEMPLATE, row_length=96, max_completion=0)
  return config


def _epochs() -> ConfigDict:
  config = assistant.sft()
  config.update(
    steps=0, epochs=16, batch_size=8, dropout=dict(first=0.1, last=0.1)
  )  # the paper's 0.2 is for many more layers
  config.rewards = assistant.rewards()
  config.eval.update(every=-1, best="choosing/reward", slots=64, **assistant.LONGEST)
  config.eval.sets.choosing = tiny_sft.evaluation().sets.heldout
  config.eval.sets.choosing.update(samples=2, greedy=False)
  config.eval.sets.choosing.prompts.template = TEMPLATE
  config.logging.console = ConfigDict({"loss": "loss", "eval/choosing/reward": "reward"})
  return config


def _ppo() -> ConfigDict:
  config = ppo_instructgpt.get_config()
  config.steps = 120  # with 200 the policy exploits the reward model: the rater's utility falls from step 110 on
  config.model = assistant_base.get_config().model
  config.prompts.update(chat=False, template=TEMPLATE)
  config.rewards = assistant.rewards()
  config.rollout.update(groups=64, group_size=1, slots=64, **assistant.LONGEST)
  config.objective.logprob_chunk = 4096
  config.learner.update(minibatches=2, tokens_per_micro_batch=0)
  for optimizer in (config.optimizer, config.value.optimizer):
    optimizer.update(learning_rate=1e-4, warmup_updates=10, b2=0.98)
  config.ptx.update(coefficient=0.05, rows=16)  # the corpus does not answer questions: much of it undoes SFT
  config.ptx.demonstrations.update(row_length=96, packed=True)
  config.eval.update(every=0, own_share=0.0)
  config.eval.sets = ConfigDict()
  config.checkpoint.update(every=50, keep=1)
  config.logging.update(tensorboard=False, report=False, rollouts_every=50)
  config.logging.console = ConfigDict({"reward/mean": "reward", "kl/answer": "KL"})
  return config


def _set_paper(config: ConfigDict) -> None:
  config.base, config.topology = "Qwen2.5-7B", "v5p:2x2x4"
  config.first = sft_instructgpt.get_config()
  config.first.epochs = 2  # ours: the paper does not say which model's answers were ranked first
  config.first.eval.every = 0
  config.epochs = sft_instructgpt.get_config()
  config.epochs.eval.best = "choosing/reward"
  config.epochs.eval.sets = dict(choosing=config.epochs.eval.sets.heldout)
  config.reward = tiny_reward_model.get_config("ranking")
  config.reward.update(batch_size=64, epochs=1)
  config.reward.warmup.steps = 0
  config.reward.preferences.update(answers=9, chat=True, max_prompt_length=1024, max_answer_length=1024)
  config.reward.demonstrations.update(chat=True, row_length=2048)
  config.reward.optimizer.update(learning_rate=9e-6, schedule="cosine", end_fraction=0.1, warmup_updates=0, b2=0.95)
  config.answers = assistant.collection()
  config.answers.prompts.update(template=_AS_ASKED, chat=True)
  config.answers.rollout.update(samples=9, slots=512, max_prompt_length=1024, max_new_tokens=1024)
  config.ppo = ppo_instructgpt.get_config()
  for name in ("first", "epochs", "reward", "answers", "ppo"):
    assistant.shard(config[name])


def get_stages(config: ConfigDict) -> list[Stage]:
  return _paper(config) if config.topology else _tiny(config)


def _tiny(config: ConfigDict) -> list[Stage]:
  missing = [kind for kind in config.shots if not config.demonstrations.kinds.get(kind)]
  if missing:
    raise InputError(f"shots: {', '.join(missing)}; expected kinds of which demonstrations.kinds has some")
  bases, base = assistant.base(config.base)
  wide, wide_base = assistant.base(config.wide_base, width="wide") if config.shots else ([], "")
  data = [assistant.stage(config, "demonstrations", assistant.DEMONSTRATIONS, labels="demonstration")]
  data += [assistant.stage(config, name, assistant.PROMPTS) for name in ("ranked", "choosing", "asked")]
  data.append(assistant.stage(config, "documents", assistant.DOCUMENTS))
  files = {stage.name: stage.file(stage.run.files[0]) for stage in data}
  joined, files["demonstrations"] = public_data.with_public(config, "seed_tasks", "people", files["demonstrations"])
  data += joined
  first = _first(config, base, files)
  answers = first[-1].file("candidates")
  rankings = [assistant.stage(config, "rankings", assistant.RANKINGS, {"candidates": answers}, labels="comparison")]
  joined, ranked = public_data.with_public(config, "harmless", "compared", rankings[0].file("rankings.jsonl"))
  rankings += joined
  made = _methods(config, first[0].model, base, {**files, "rankings": ranked})
  own = seeded(config.measures, config.seed)
  measured = {"base": measuring.measured("base", base, own, base)}
  if config.shots:
    measured["wide_few_shot"] = measuring.measured_few_shot(
      "wide_few_shot", wide_base, own, files["demonstrations"], config.shots
    )
  stages = [*bases, *wide, *data, *measured.values()]
  models = {"base": base}
  for stage in (*first, *rankings, *made):
    stages.append(stage)
    if stage.name in ("first", "sft", "rlhf"):
      models[stage.name] = stage.model
      measured[stage.name] = measuring.measured(stage.name, stage.model, own, base)
      stages.append(measured[stage.name])
  compared = [pair for pair in COMPARED if {*pair[1:]} <= measured.keys()]
  stages += public_data.public_answers(config, models)
  stages += [compare(compared, measured, config.seed) for compare in (measuring.rated, measuring.compared)]
  return gates.gated(stages, {"sft": "base", "rlhf": "sft"}, measured, config)


def _paper(config: ConfigDict) -> list[Stage]:
  """Returns the methods with files of people's demonstrations, rankings and prompts."""
  names = ("demonstrations", "ranked", "choosing", "asked", "documents", "rankings")
  files = {name: f"{name}.jsonl" for name in names}
  first = _first(config, config.base, files)
  labels = {"first": "demonstration", "reward": "comparison"}
  return [
    dataclasses.replace(
      stage,
      labels=labels.get(stage.name, ""),
      rows={field: PAPER[given] for field, given in stage.inputs.items() if given in PAPER},
    )
    for stage in [*first, *_methods(config, first[0].model, config.base, files)]
  ]


def _first(config: ConfigDict, base: Source, files: Mapping[str, Source]) -> list[Stage]:
  """Returns the stages of the first model and of its answers."""
  first = assistant.stage(config, "first", SFT, {"model.path": base, "demonstrations.path": files["demonstrations"]})
  return [
    first,
    assistant.stage(config, "answers", COLLECT, {"model.path": first.model, "prompts.path": files["ranked"]}),
  ]


def _methods(config: ConfigDict, first: Source, base: Source, files: Mapping[str, Source]) -> list[Stage]:
  """Returns the stages of the reward model, of SFT and of PPO."""
  people = {"demonstrations.path": files["demonstrations"]}
  reward = assistant.stage(
    config, "reward", REWARD_MODEL, {"model.path": first, "preferences.path": files["rankings"], **people}
  )
  scored = {"eval.reward_model": reward.model, "eval.sets.choosing.prompts.path": files["choosing"]}
  epochs = assistant.stage(config, "epochs", SFT, {"model.path": base, **people, **scored})
  sft = _checkpoint("sft", epochs, "best")
  inputs = {"prompts.path": files["asked"], "ptx.demonstrations.path": files["documents"]}
  ppo = assistant.stage(config, "ppo", PPO, {"model.path": sft.model, "reward_model": reward.model, **inputs})
  return [reward, epochs, sft, ppo, _checkpoint("rlhf", ppo, "average")]


def _checkpoint(name: str, run: Stage, which: str) -> Stage:
  """Returns the stage that takes one checkpoint of a run."""
  own = average.models("one", checkpoint=which)
  return Stage(name, run=AVERAGE, config=own, inputs={"models.one.path": run.model})
