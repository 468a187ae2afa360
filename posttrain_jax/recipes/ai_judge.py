"""Lets an AI judge compare answers under a constitution, for a preference model on soft targets.

The judge is asked under each principle in both orders (`recipes.both_orders`). All principles are weighed together
(`recipes.weighing`), and the one that decided is recorded with each judgement.

Source: Constitutional AI (2212.08073, section 4.1), which draws one principle for each comparison. Here all are asked,
but of those about harm only the one that speaks of what is asked about (`recipes.principle_fit`): the others say
nothing.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.constitution import Constitution, Principle, read_constitution
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.pipelines.collect import DEMONSTRATIONS
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.assistant_data import read_candidates
from posttrain_jax.recipes.both_orders import Judge
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.preferences import PolicyAnswers
from posttrain_jax.recipes.principle_fit import Recall, about_harm, fits, speaking
from posttrain_jax.recipes.weighing import Weighed, weigh
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

JUDGED = "judged.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeSettings:
  """Holds the config of a judge.

  Attributes:
    seed: of the pairs that are drawn.
    model: the judge.
    critic: it names principles, which tells the one that speaks of what is asked about.
    knowledge: the pretrained model, which is asked what it knows of that.
    constitution: FILE.md.
    policies: the models by name whose answers to the same prompts are compared: two of one model, or of two if there
      are several.
    pairs: comparisons of each prompt, of which equal ones count once.
    thinks: whether the judge thinks first.
    slots: of the model's engine.
    max_prompt_length: limit on what the judge reads, in tokens.
    max_thought: limit on a thought, in tokens.
  """

  seed: int
  model: AskedModel
  critic: AskedModel
  knowledge: AskedModel
  constitution: str
  policies: Mapping[str, PolicyAnswers]
  pairs: int = at_least(1)
  thinks: bool
  slots: int = at_least(1)
  max_prompt_length: int = at_least(1)
  max_thought: int = at_least(1)


def judging(*policies: str) -> ConfigDict:
  """Returns the config; the models, the constitution and `policies.NAME.path` are inputs."""
  return ConfigDict(
    dict(
      seed=0,
      model=dict(path=""),
      critic=dict(path=""),
      knowledge=dict(path=""),
      constitution="",
      policies={name: dict(path="") for name in policies},
      pairs=2,
      thinks=False,
      slots=64,
      max_prompt_length=192,
      max_thought=16,
    )
  )


def judge(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Compares two answers to each prompt.

  Args:
    config: a record `JudgeSettings`.
    folder: gets judged.jsonl: rows with "chosen", "rejected", "probability" that chosen is the better one, "principle"
      that decided, "veto", and "asked": the number of each principle that was asked, with the probability that chosen
      is the better one.

  Returns:
    Counts, and for each half of the categories: "own", how often the principle that speaks of what is asked about is
    that of the category. Of pairs whose answers the rule tells apart: "rule", how often the judge's choice is the
    rule's; "order" and "paraphrase", how often that principle chooses the same with the answers in the other order, and
    in other words; "decided", how often the principle that decided is the category's.

  Raises:
    InputError: if constitution, model or candidates cannot be read, or if no two answers differ.
  """
  given = parse(JudgeSettings, config)
  constitution, pairs = read_constitution(given.constitution), _pairs(given)
  asked = _asked(given, constitution, [request for request, _, _ in pairs])
  sizes = dict(max_prompt_length=given.max_prompt_length, max_new_tokens=given.max_thought)
  judge = Judge(TextModel(given.model.path, seed=given.seed, slots=given.slots, **sizes), thinks=given.thinks)

  def ask(places: Sequence[int], says: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    return judge.probabilities(
      [(pairs[i][0].text, *pairs[i][1:], asked.known[i], text) for i, text in zip(places, says)]
    )

  every = [(i, each) for i, principles in enumerate(asked.principles) for each in principles]
  said, agree = ask([i for i, _ in every], [each.says for _, each in every])
  own = [n for n, (_, each) in enumerate(every) if each in asked.harms]
  again, _ = ask([every[n][0] for n in own], [every[n][1].paraphrase for n in own])
  found: list[dict[int, float]] = [{} for _ in pairs]
  for (i, each), value in zip(every, said):
    found[i][each.number] = float(value)
  checks = {every[n][0]: (every[n][1], agree[n], (said[n] > 0.5) == (again[m] > 0.5)) for m, n in enumerate(own)}
  weighed = [weigh(each, constitution.principles, len(constitution.priorities)) for each in found]
  rows = [_row(*pair, each, one) for pair, each, one in zip(pairs, weighed, found)]
  atomic_files.write_rows(folder / JUDGED, rows)
  counts = {"comparisons": len(rows), "vetoes": sum(row["veto"] for row in rows), "tokens_generated": judge.tokens}
  return counts | _shares(pairs, weighed, checks, {each.number: each for each in constitution.principles})


class _Asked(NamedTuple):
  """Holds what is known of each pair's topic, and the principles under which each is judged."""

  known: list[str]
  principles: list[list[Principle]]
  harms: list[Principle]


def _asked(given: JudgeSettings, constitution: Constitution, requests: Sequence[WorldRequest]) -> _Asked:
  harms = about_harm(constitution)
  known, _ = Recall(given.knowledge.path, seed=given.seed, slots=given.slots).known(requests)
  sizes = dict(slots=given.slots, max_prompt_length=given.max_prompt_length, max_new_tokens=1)
  critic = TextModel(given.critic.path, seed=given.seed, **sizes)
  places = [speaking(row) for row in fits(critic.logprobs, requests, known, harms)]
  general = [each for each in constitution.principles if each not in harms]
  return _Asked(known, [[*general, *([] if place is None else [harms[place]])] for place in places], harms)


def _shares(
  pairs: Sequence[tuple[WorldRequest, str, str]],
  weighed: Sequence[Weighed],
  checks: Mapping[int, tuple[Principle, float, bool]],
  principles: Mapping[int, Principle],
) -> dict[str, float]:
  """Returns the shares of pairs that `judge` returns."""
  found: dict[str, list[float]] = {}
  for i, (request, first, second) in enumerate(pairs):
    half, harm = critiques.half(request.harm), request.harm
    right = critiques.preferred((harm,), request, first, second, harm)
    found.setdefault(f"own/{half}", []).append(i in checks and harm in checks[i][0].about)
    if right is None:
      continue
    for group in (half, harm):
      found.setdefault(f"rule/{group}", []).append((weighed[i].probability > 0.5) == right)
    decided = principles.get(weighed[i].decided)
    found.setdefault(f"decided/{half}", []).append(decided is not None and harm in decided.about)
    if i in checks:
      _, order, same = checks[i]
      found.setdefault(f"order/{half}", []).append(order)
      found.setdefault(f"paraphrase/{half}", []).append(same)
  return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the comparisons of the answers to each prompt."""
  first = next(iter(config.policies.values())).path
  count = known.count(str(pathlib.Path(first).parent / DEMONSTRATIONS)) * config.pairs
  return Effort(examples=count, rows={JUDGED: count})


def _pairs(given: JudgeSettings) -> list[tuple[WorldRequest, str, str]]:
  """Draws different pairs of answers to each prompt."""
  rng, answers = random.Random(f"judged/{given.seed}"), [dict(read_candidates(p.path)) for p in given.policies.values()]
  found = []
  for request in answers[0]:
    texts = [sorted({*each.get(request, ())}) for each in answers]
    drawn = [_two(texts, rng) for _ in range(given.pairs)]
    # No order in the alphabet, which would tell refusals from others.
    found += [(request, *rng.sample(pair, 2)) for pair in dict.fromkeys(pair for pair in drawn if pair)]
  if not found:
    raise InputError("policies: have no two different answers to a prompt, expected some")
  return found


def _two(texts: Sequence[Sequence[str]], rng: random.Random) -> tuple[str, str] | None:
  """Draws two different answers, of two models if there are several; None if there are none."""
  if len(texts) > 1:
    one, other = ([rng.choice(each)] if each else [] for each in rng.sample(texts, 2))
    different = sorted({*one, *other}) if one and other else []
  else:
    different = sorted(rng.sample(texts[0], 2)) if len(texts[0]) > 1 else []
  return (different[0], different[1]) if len(different) == 2 else None


def _row(
  request: WorldRequest, first: str, second: str, weighed: Weighed, found: Mapping[int, float]
) -> dict[str, Any]:
  better = weighed.probability >= 0.5
  chosen, rejected = (first, second) if better else (second, first)
  return {
    **request.to_row(),
    "chosen": chosen,
    "rejected": rejected,
    "probability": max(weighed.probability, 1 - weighed.probability),
    "principle": weighed.decided,
    "veto": weighed.vetoed,
    "asked": {str(number): value if better else 1 - value for number, value in found.items()},
  }
