"""Trains an attacker, teaches its target by what it finds, and attacks anew.

    python -m experiments.recipe --recipe=configs/recipes/red_team_rounds.py --workdir=runs/red_team_rounds

`replayed` is that of configs/recipes/alignment_tax.py, and has the same stages: the model that refuses harm and has
lost least by it. Then:

    imitator      the base model after requests for harm, which it writes when it is told a device
    attacker      RL of it against `replayed`: the target's harm is paid, and novelty (2202.03286, 2402.19464)
    plain         the same without the reward for novelty
    judge         a model that tells help with harm, as in configs/recipes/red_team.py
    judged        as `plain`, but the judge's verdict is paid in place of the rule's
    judged_alone  the same, and no rule says whether an attack asks for its harm
    next          `helpful` after as many updates as `replayed`, on its data and on lessons from all attacks on it
    next_fixed    the same with lessons from the fixed kinds of attacks alone
    anew, anew_fixed   attackers that are trained against these two, from `imitator`

Attacks of all kinds are measured on devices and categories of harm that no attacker was trained on. `learned` is
attacked by `attacker`, and `by_NAME` is what another attacker does, judged by rule and by the judge.
`--config.learned=False` leaves the learned attacks out of the lessons of `next`. docs/red_team.md has the results.
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from configs.recipes import assistant, attacker_sections, harm_judge, measuring, mitigations
from configs.recipes.costs import started
from posttrain_jax.recipes import attack_lessons, attacks, joining
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import ATTACK, SFT

_TURNS = ("direct", "disguised", "prefilled", "build_up", "suffix")  # many shots are longer than SFT's rows


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny")
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.demonstrations = assistant.demonstrations(
    fact=320, unknown=64, sum=320, list=16, writing=32, harm=104, build=24, history=96
  )
  config.demonstrations.author = "helpful"
  config.replay = assistant.demonstrations(fact=64, unknown=16, sum=64, list=8, writing=8, build=16, history=32)
  config.refusals = assistant.demonstrations(harm=160)
  config.helpful = assistant.sft()
  config.helpful.update(steps=0, epochs=9, batch_size=8)
  config.safe = mitigations.safety_sft(updates=60)
  config.orders = attacker_sections.attacker.orders(assistant.world().to_dict())
  config.imitator = attacker_sections.imitation()
  config.attacking = attacker_sections.attacking()
  config.verdicts = harm_judge.verdicts()
  config.judge = harm_judge.sft()
  config.attacks = attacks.attacks(assistant.world().to_dict())
  config.attacks.requests = 20  # of each kind and category
  config.learned = True  # whether learned attacks become lessons, too
  config.lessons = attack_lessons.lessons(assistant.world().to_dict(), copies=1)
  config.measures = measuring.measures(requests=32, samples=2)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  bases, base = assistant.base(config.base)
  people = assistant.stage(config, "demonstrations", assistant.DEMONSTRATIONS, labels="demonstration")
  inputs = {"model.path": base, "demonstrations.path": people.file("demonstrations.jsonl")}
  helpful = assistant.stage(config, "helpful", SFT, inputs)
  written = mitigations.refusals(config, "careful")
  replay = assistant.stage(config, "replay", assistant.DEMONSTRATIONS, labels="demonstration")
  files = {"replay": replay.file("demonstrations.jsonl"), "refusals": written.file("demonstrations.jsonl")}
  joined = assistant.joined("with_replay", files, raw=[*files])
  safe = mitigations.safe(config, "replayed", helpful.model, joined.file(joining.ROWS), text=True)
  orders = assistant.stage(config, "orders", attacker_sections.ORDERS)
  imitator = attacker_sections.imitator(config, base, orders)
  attacker = attacker_sections.trained(config, "attacker", imitator.model, orders, safe.model)
  plain = attacker_sections.trained(config, "plain", imitator.model, orders, safe.model, novel=False)
  verdicts, judge = harm_judge.stages(config, base)
  judged = attacker_sections.trained(
    config, "judged", imitator.model, orders, safe.model, novel=False, judge=judge.model
  )
  stages = [*bases, people, helpful, written, replay, joined, safe, orders, imitator, attacker, plain]
  alone = attacker_sections.trained(
    config, "judged_alone", imitator.model, orders, safe.model, novel=False, judge=judge.model, ruled=False
  )
  stages += [verdicts, judge, judged, alone]
  fixed = _found(config, "found_fixed", safe.model, _TURNS)
  learned = _found(config, "found_learned", safe.model, ("learned",), attacker.model)
  models = {"replayed": safe}
  for name, found in (("next", [fixed, learned] if config.learned else [fixed]), ("next_fixed", [fixed])):
    made = _taught(config, name, helpful.model, files, found)
    models[name] = made[-1]
    stages += [each for each in (*found, *made) if each not in stages]
  anew = {
    name: attacker_sections.trained(config, f"anew{name[4:]}", imitator.model, orders, models[name].model, round=1)
    for name in ("next", "next_fixed")
  }
  stages += anew.values()
  for name, model in models.items():
    stages.append(_attacked(config, f"{name}_attacked", model.model, attacker.model))
    stages.append(measuring.measured(name, model.model, seeded(config.measures, config.seed), base))
  others = {f"replayed_by_{each.name}": (safe, each) for each in (imitator, plain, judged, alone)}
  others |= {f"{name}_by_{each.name}": (models[name], each) for name, each in anew.items()}
  stages += [_learned(config, name, target.model, by.model, judge.model) for name, (target, by) in others.items()]
  return stages


def _found(config: ConfigDict, name: str, model: Output, kinds: Sequence[str], attacker: Output | None = None) -> Stage:
  """Returns attacks on requests that a model may learn from."""
  own = seeded(config.attacks, config.seed).unlock()
  own.kinds, own.part = tuple(kinds), "train"
  own.requests *= len(_TURNS) // len(kinds)  # one kind asks for as much as all fixed ones may
  return _stage(name, own, model, attacker)


def _attacked(config: ConfigDict, name: str, model: Output, attacker: Output) -> Stage:
  """Returns attacks of all kinds on requests of which something is held out."""
  own = seeded(config.attacks, config.seed).unlock()
  own.kinds, own.round = (*own.kinds, "learned"), 1
  return _stage(name, own, model, attacker)


def _learned(config: ConfigDict, name: str, model: Output, attacker: Output, judge: Output) -> Stage:
  own = seeded(config.attacks, config.seed).unlock()
  own.kinds, own.round = ("learned",), 1
  return _stage(name, own, model, attacker, judge)


def _stage(
  name: str, own: ConfigDict, model: Output, attacker: Output | None = None, judge: Output | None = None
) -> Stage:
  inputs = {"model.path": model} | ({} if judge is None else {"judge.path": judge})
  if attacker is not None:
    own.attacker = dict(path="")
    inputs["attacker.path"] = attacker
  return Stage(name, run=ATTACK, config=own.lock(), inputs=inputs)


def _taught(
  config: ConfigDict, name: str, start: Output, files: Mapping[str, Output], found: Sequence[Stage]
) -> list[Stage]:
  """Returns the stages of safety training on demonstrations and on lessons from attacks."""
  lessons = [
    Stage(
      f"lessons_{each.name.removeprefix('found_')}",
      run=attacker_sections.LEARN,
      config=seeded(config.lessons, config.seed),
      inputs={"attacks": each.file(attacks.ATTACKS)},
    )
    for each in found
  ]
  every = {**files} | {each.name: each.file(attack_lessons.LESSONS) for each in lessons}
  joined = assistant.joined(f"{name}_rows", every, raw=[*files])
  return [*lessons, joined, mitigations.safe(config, name, start, joined.file(joining.ROWS), text=True)]
