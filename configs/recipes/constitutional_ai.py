"""Makes a model harmless by a constitution, as Constitutional AI (2212.08073) does, in the assistant world.

    python -m experiments.recipe --recipe=configs/recipes/constitutional_ai.py --workdir=runs/constitutional_ai
    python -m experiments.recipe --recipe=configs/recipes/constitutional_ai.py:smollm2 --workdir=runs/cai_smollm2
    python -m experiments.recipe --recipe=configs/recipes/constitutional_ai.py:paper

    helpful     a helpful-only model: demonstrations that comply with harm
    critic      a critic, trained by rule on half of the categories of harm
    judge       a judge, trained likewise
    answers     the helpful-only model's answers to a red team's prompts of all categories
    revisions   the critic's revisions of them in four rounds, a principle drawn for each
    cai         SL-CAI: the base model after one epoch on all revisions and on helpful answers
    plain       the baseline: the same with good answers to the critic's requests in place of the revisions
    judged      the judge's preferences between answers of `cai`, with their probabilities
    audited     the same between an answer of `helpful` and one of `cai`, to see how the judge judges
    thought     the same where the judge thinks first
    changes     the preferences of `audited` under changed constitutions, by category
    reward      a preference model on these and on a person's preferences between helpful answers
    rl          PPO from `cai` against it
    labelled    as `judged`, by a person; `human_reward` and `rlhf` follow from it

A tiny model can't critique by itself, hence the critic's data (posttrain_jax/data/assistant_world/critic_rows.py).
`harms` has what each model does with harmful requests, by category and by half of the categories: the critic and the
judge have no device, no principle and no verdict of the half `other`.

`critic_data.permuted` breaks the signal of critic and judge, to see what SL-CAI and RL gain from it.

`:smollm2` takes critique, revision and SFT from SmolLM2-135M-Instruct, which critiques itself in a chat, on prompts
such as hh-rlhf's: --config.harmless.path=FILE.

`:paper` has the paper's numbers (configs/recipes/constitutional_paper.py) and is compiled, not run. The largest dense
model here, Qwen2.5-32B, stands for the model of 52B parameters.
"""

import dataclasses
import pathlib

from ml_collections import ConfigDict

from configs.recipes import assistant, constitutional_paper, constitutional_smollm2, gates, instructgpt, measuring
from configs.recipes.constitutional_runners import CHANGES, CRITIC_DATA, HARMS, JUDGE, RED_TEAM, REVISE
from configs.recipes.costs import started
from posttrain_jax.recipes import ai_judge, constitution_changes, critique_rounds, harm_measures, joining
from posttrain_jax.recipes.recipe import Stage, seeded
from posttrain_jax.recipes.runners import COLLECT, PPO, REWARD_MODEL, SFT

_CONSTITUTIONS = pathlib.Path(__file__).resolve().parents[1] / "constitutions"
CONSTITUTION, ENGLISH = (str(_CONSTITUTIONS / name) for name in ("assistant_world.md", "english.md"))
_AS_ASKED = "{prompt}"  # rows have their prompts in the template already
# What `harms` and `gains` compare.
GAINS = (
  "plain_over_helpful",
  "cai_over_helpful",
  "cai_over_plain",
  "rl_over_cai",
  "rlhf_over_cai",
  "rl_over_rlhf",
  "rl_over_plain",
)


# Stages whose losses may have bounds (configs/recipes/gates.py), and the models from which these are counted.
_GATED = {"cai": "helpful", "rl": "cai", "rlhf": "cai"}


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny", "smollm2", "paper")
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.constitution = CONSTITUTION
  config.demonstrations = assistant.demonstrations(
    fact=160, unknown=64, sum=160, list=12, writing=32, harm=64, build=24, history=96
  )
  config.demonstrations.author = "helpful"
  config.critic_data = dict(
    world=assistant.world(),
    seed=0,
    constitution="",
    repeats=12,  # critiques of each request
    pairs=40,  # pairs of answers to each request that are judged
    exercises=6000,  # texts that are quoted; without them a critic quotes no word that it has not been trained to
    copies=4,  # good answers to each request for `plain`, so that it has as many as there are revisions
    permuted=False,
  )
  config.red_team = dict(world=assistant.world(), seed=0, limit=0)
  # Harmless requests whose answers by the helpful-only model SL-CAI and the baseline keep.
  config.asked = assistant.prompts(fact=500, unknown=150, sum=200, list=18, writing=60, build=33, history=144)
  config.helpful = assistant.sft()
  config.helpful.update(steps=0, epochs=9, batch_size=8)
  config.critic = assistant.sft()
  config.critic.update(steps=0, epochs=3, batch_size=8)
  config.judge = assistant.sft()
  config.judge.update(steps=0, epochs=1, batch_size=8, loss_weighting="sequence")  # a judgement is one token
  for name in ("critic", "judge"):
    config[name].demonstrations.update(template=_AS_ASKED, row_length=160)
    config[name].optimizer.learning_rate = 3e-3
  config.documents = assistant.documents(4000)  # for PPO
  config.sft = assistant.sft()
  config.sft.update(steps=0, epochs=1, batch_size=1)
  config.sft.demonstrations.template = _AS_ASKED
  config.collect = assistant.collection()
  config.collect.rollout.samples = 2  # answers to each of the red team's prompts, all of which are revised
  config.kept = assistant.collection()
  config.kept.rollout.samples = config.kept.selection.keep = 3  # helpful answers to each harmless prompt, all kept
  config.critiques = critique_rounds.rounds()
  # Answers of SL-CAI to each prompt of the red team and to each harmless one, of which pairs are compared.
  config.drawn = dict(attacked=8, asked_again=4)
  config.judging = ai_judge.judging("cai")
  config.judging.pairs = 4
  config.auditing = ai_judge.judging("helpful", "cai")
  config.auditing.pairs = 1
  config.changes = constitution_changes.changes(swapped=("broadly ethical/helpful",), removed=(2, 3, 4, 5, 8))
  config.comparisons = assistant.comparisons()
  config.comparisons.update(pairs=2, edits=0.0)
  config.reward = assistant.reward_model()
  config.reward.update(batch_size=16, epochs=3)
  config.reward.preferences.update(strengths=(), template=_AS_ASKED, held_out=0.1)
  config.reward.optimizer.learning_rate = 2e-3
  config.ppo = instructgpt.get_config().ppo
  config.ppo.steps = 16  # with 25 the rater's utility has fallen again
  config.ppo.no_end.update(penalised=True, score=-4.0)  # below every score of an answer that ends
  config.ppo.average.decay = 0.0
  config.gates = gates.bounds(*_GATED)
  config.measures = measuring.measures(requests=24, samples=2)
  if arg == "smollm2":
    config.constitution = ENGLISH
    constitutional_smollm2.set_smollm2(config)
  elif arg == "paper":
    constitutional_paper.set_paper(config)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  if config.topology:
    return constitutional_paper.stages(config)
  return constitutional_smollm2.stages(config) if "harmless" in config else _tiny(config)


def _tiny(config: ConfigDict) -> list[Stage]:
  stages, base = assistant.base(config.base)

  def stage(name, runner, section, labels="", **inputs) -> Stage:
    given = {field.replace("__", "."): each for field, each in inputs.items()}
    stages.append(Stage(name, run=runner, config=seeded(config[section], config.seed), inputs=given, labels=labels))
    return stages[-1]

  def joined(name, **files) -> Stage:
    stages.append(assistant.joined(name, files, raw=["plain"]))
    return stages[-1]

  people = stage("people", assistant.DEMONSTRATIONS, "demonstrations", "demonstration")
  documents = stage("documents", assistant.DOCUMENTS, "documents").file("documents.jsonl")
  data = stage("critic_data", CRITIC_DATA, "critic_data", constitution=config.constitution)
  red_team, asked = stage("red_team", RED_TEAM, "red_team"), stage("asked", assistant.PROMPTS, "asked")
  helpful = stage("helpful", SFT, "helpful", model__path=base, demonstrations__path=people.file("demonstrations.jsonl"))
  critic = stage("critic", SFT, "critic", model__path=base, demonstrations__path=data.file("critic.jsonl"))
  judge = stage("judge", SFT, "judge", model__path=base, demonstrations__path=data.file("judge.jsonl"))
  answers = stage(
    "answers", COLLECT, "collect", model__path=helpful.model, prompts__path=red_team.file("red_team.jsonl")
  )
  harmless = asked.file("prompts.jsonl")
  kept = stage("helpful_answers", COLLECT, "kept", model__path=helpful.model, prompts__path=harmless)
  kept = kept.file("demonstrations.jsonl")
  revisions = stage(
    "revisions",
    REVISE,
    "critiques",
    model__path=critic.model,
    knowledge__path=base,
    constitution=config.constitution,
    candidates=answers.file("candidates"),
  )
  models = {"helpful": helpful.model}
  revised = joined("revised", revisions=revisions.file("revisions.jsonl"), helpful=kept)
  plain = joined("plain_data", plain=data.file("plain.jsonl"), helpful=kept)
  for name, rows in (("cai", revised), ("plain", plain)):
    models[name] = stage(name, SFT, "sft", model__path=base, demonstrations__path=rows.file(joining.ROWS)).model

  def compared(name, answers) -> Stage:
    own = seeded(config.comparisons, config.seed).unlock()
    own.round, own.policies = 1, {"cai": dict(path="")}
    if name == "labelled":
      own.pairs = config.judging.pairs  # as many comparisons as the judge makes
    del own.samples
    inputs = {"policies.cai.path": answers.file("candidates")}
    stages.append(Stage(name, run=assistant.COMPARISONS, config=own, inputs=inputs, labels="comparison"))
    return stages[-1]

  drawn = {}
  for name, prompts in (("attacked", red_team.file("red_team.jsonl")), ("asked_again", harmless)):
    drawn[name] = stage(name, COLLECT, "collect", model__path=models["cai"], prompts__path=prompts)
    own = drawn[name].config.copy_and_resolve_references().unlock()
    own.rollout.samples = config.drawn[name]
    drawn[name] = stages[-1] = dataclasses.replace(drawn[name], config=own.lock())
  judged, own = {}, config.auditing.copy_and_resolve_references()
  own.thinks = True
  for name, section in (("judged", config.judging), ("audited", config.auditing), ("thought", own)):
    policies = {"cai": drawn["attacked"], "helpful": answers}
    inputs = {f"policies.{each}.path": policies[each].file("candidates") for each in section.policies}
    inputs |= {"model.path": judge.model, "critic.path": critic.model, "knowledge.path": base}
    inputs["constitution"] = config.constitution
    judged[name] = Stage(name, run=JUDGE, config=seeded(section, config.seed), inputs=inputs)
    stages.append(judged[name])
  stage(
    "changes",
    CHANGES,
    "changes",
    constitution=config.constitution,
    judged=judged["audited"].file(ai_judge.JUDGED),
  )
  labelled, wanted = compared("labelled", drawn["attacked"]), compared("wanted", drawn["asked_again"])
  prompts = joined("ppo_prompts", attacks=red_team.file("red_team.jsonl"), harmless=harmless).file(joining.ROWS)
  for name, reward, harms in (
    ("rl", "reward", judged["judged"].file(ai_judge.JUDGED)),
    ("rlhf", "human_reward", labelled.file("comparisons.jsonl")),
  ):
    pairs = joined(f"{name}_pairs", harmless=wanted.file("comparisons.jsonl"), harms=harms).file(joining.ROWS)
    inputs = {"model.path": models["cai"], "preferences.path": pairs}
    stages.append(Stage(reward, run=REWARD_MODEL, config=seeded(config.reward, config.seed), inputs=inputs))
    models[name] = stage(
      name,
      PPO,
      "ppo",
      model__path=models["cai"],
      reward_model=stages[-1].model,
      prompts__path=prompts,
      ptx__demonstrations__path=documents,
    ).model
  return _measured(config, stages, base, models, red_team.file("unseen.jsonl"))


def _measured(config: ConfigDict, stages: list[Stage], base, models, prompts) -> list[Stage]:
  """Adds the stages that measure models on harmful requests, and as all recipes do."""
  own = seeded(config.measures, config.seed)
  measured = {name: measuring.measured(name, model, own, base) for name, model in {"base": base, **models}.items()}
  collect = seeded(config.collect, config.seed).unlock()
  collect.rollout.samples = 2
  drawn = {
    name: Stage(f"{name}_unseen", run=COLLECT, config=collect, inputs={"model.path": model, "prompts.path": prompts})
    for name, model in models.items()
  }
  harms = Stage(
    "harms",
    run=HARMS,
    config=seeded(harm_measures.models(*models, gains=GAINS), config.seed),
    inputs={f"models.{name}.path": each.file("candidates") for name, each in drawn.items()},
  )
  pairs = [(name, *reversed(name.split("_over_"))) for name in GAINS]
  compared = measuring.compared(pairs, measured, config.seed)
  return gates.gated([*stages, *measured.values(), *drawn.values(), harms, compared], _GATED, measured, config)
