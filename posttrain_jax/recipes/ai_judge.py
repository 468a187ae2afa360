"""Lets an AI judge compare answers under a constitution, for a preference model on soft targets.

Under each principle about harm the judge reads both answers as "(A)" and "(B)". Its probability of (A) is that among
the two tokens, P(A) / (P(A) + P(B)); with the order swapped it is asked again and the two are averaged. All principles
are weighed together: the logits are added, each with its priority's weight, half of that of the next higher one. A hard
constraint that is sure decides alone. The principle that decided is recorded with each judgement.

Source: Constitutional AI (2212.08073, section 4.1), which draws one principle for each comparison. Here all are asked,
since a principle of the world is about two categories of harm and says nothing of the others.
"""

import dataclasses
import math
import pathlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.constitution import Principle, read_constitution
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.pipelines.collect import DEMONSTRATIONS
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.assistant_data import read_candidates
from posttrain_jax.recipes.critique_rounds import about_harm
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

JUDGED = "judged.jsonl"
SURE = 0.3  # how far from a half a hard constraint's probability must be to decide alone
_LOWEST = 1e-3  # least probability whose logit is added, so that no principle of a low priority outvotes all others


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeSettings:
  """Holds the config of a judge.

  Attributes:
    seed: of the pairs that are drawn.
    model: the judge.
    constitution: FILE.md.
    removed: number of a principle that is left out; 0 for none.
    candidates: the folder candidates/ of a collection; two answers to each prompt are compared.
    pairs: comparisons of each prompt, of which equal ones count once.
    slots: of the model's engine.
    max_prompt_length: limit on what the judge reads, in tokens.
  """

  seed: int
  model: AskedModel
  constitution: str
  removed: int = at_least(0)
  candidates: str
  pairs: int = at_least(1)
  slots: int = at_least(1)
  max_prompt_length: int = at_least(1)


class Weighed(NamedTuple):
  """Holds a judgement under a constitution.

  Attributes:
    probability: that the first answer is the better one.
    decided: number of the principle that decided.
    vetoed: whether it did as a hard constraint.
  """

  probability: float
  decided: int
  vetoed: bool


def judging() -> ConfigDict:
  """Returns the config; the model, the constitution and the candidates are inputs."""
  return ConfigDict(
    dict(
      seed=0,
      model=dict(path=""),
      constitution="",
      removed=0,
      candidates="",
      pairs=2,
      slots=64,
      max_prompt_length=192,
    )
  )


def weigh(probabilities: Mapping[int, float], principles: Sequence[Principle], priorities: int) -> Weighed:
  """Weighs what each principle says of two answers.

  Args:
    probabilities: number of a principle to the probability that the first answer is the better one.
    principles: those that were asked.
    priorities: how many priorities there are; a principle of the lowest weighs 1.
  """
  hard = [each for each in principles if each.hard and abs(probabilities[each.number] - 0.5) >= SURE]
  if hard:
    first = max(hard, key=lambda each: abs(probabilities[each.number] - 0.5))
    return Weighed(probabilities[first.number], first.number, True)
  parts = {
    each.number: 2.0 ** (priorities - 1 - each.priority) * _logit(probabilities[each.number]) for each in principles
  }
  total = sum(parts.values())
  decided = max(parts, key=lambda number: parts[number] * math.copysign(1, total))
  return Weighed(1 / (1 + math.exp(-total)) if total > -700 else 0.0, decided, False)


def probabilities(
  logprobs: Callable[[Sequence[str]], np.ndarray], pairs: Sequence[tuple[str, str, str]], principle: str
) -> tuple[np.ndarray, np.ndarray]:
  """Asks a judge for the better one of two answers, in both orders.

  Args:
    logprobs: texts to the logprobs of "(A)" and "(B)" after each, float [N, 2].
    pairs: (request in the world's template, first answer, second answer).
    principle: what it says.

  Returns:
    (P that the first answer is better, averaged over both orders; how often the two orders agree on the better one,
    as 0 or 1), float [N] each.
  """
  found = []
  for order in (1, -1):
    texts = [critiques.judge_prompt(asked, *(first, second)[::order], principle) for asked, first, second in pairs]
    both = logprobs(texts).astype(np.float64)
    found.append(1 / (1 + np.exp(both[:, 1] - both[:, 0])))
  straight, swapped = found[0], 1 - found[1]
  return (straight + swapped) / 2, ((straight > 0.5) == (swapped > 0.5)).astype(float)


def judge(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Compares two answers to each prompt.

  Args:
    config: a record `JudgeSettings`.
    folder: gets judged.jsonl: rows with "chosen", "rejected", "probability" that chosen is the better one, "principle"
      that decided and "veto".

  Returns:
    Counts, and for each half of the categories: "rule", how often the judge's choice is the rule's; "order" and
    "paraphrase", how often the principle that is about the category chooses the same with the answers in the other
    order, and in other words.

  Raises:
    InputError: if constitution, model or candidates cannot be read, or if no two answers differ.
  """
  given = parse(JudgeSettings, config)
  constitution = read_constitution(given.constitution)
  constitution = constitution.without(given.removed) if given.removed else constitution
  known, pairs = about_harm(constitution), _pairs(given)
  model = TextModel(
    given.model.path,
    seed=given.seed,
    slots=given.slots,
    max_prompt_length=given.max_prompt_length,
    max_new_tokens=1,
  )

  def logprobs(texts: Sequence[str]) -> np.ndarray:
    return model.logprobs(texts, (critiques.FIRST, critiques.SECOND))

  asked = [(request.text, first, second) for request, first, second in pairs]
  said = {each.number: probabilities(logprobs, asked, each.says) for each in known}
  again = {each.number: probabilities(logprobs, asked, each.paraphrase)[0] for each in known}
  rows, checks = [], {}
  for i, (request, first, second) in enumerate(pairs):
    found = {number: float(each[0][i]) for number, each in said.items()}
    weighed = weigh(found, known, len(constitution.priorities))
    rows.append(_row(request, first, second, weighed))
    own = next((each for each in known if request.harm in each.about), None)
    right = critiques.preferred(request, first, second, (request.harm,))
    half = "trained" if request.harm in critiques.TRAINED_HARMS else "other"
    if right is not None:
      checks.setdefault(f"rule/{half}", []).append((weighed.probability > 0.5) == right)
      checks.setdefault(f"rule/{request.harm}", []).append((weighed.probability > 0.5) == right)
      if own is not None:
        checks.setdefault(f"order/{half}", []).append(said[own.number][1][i])
        same = (found[own.number] > 0.5) == (again[own.number][i] > 0.5)
        checks.setdefault(f"paraphrase/{half}", []).append(same)
  atomic_files.write_rows(folder / JUDGED, rows)
  counts = {"comparisons": len(rows), "vetoes": sum(row["veto"] for row in rows)}
  return counts | {name: float(np.mean(values)) for name, values in sorted(checks.items())}


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the comparisons of the answers to each prompt."""
  count = known.count(str(pathlib.Path(config.candidates).parent / DEMONSTRATIONS)) * config.pairs
  return Effort(examples=count, rows={JUDGED: count})


def _pairs(given: JudgeSettings) -> list[tuple[WorldRequest, str, str]]:
  """Draws different pairs of answers to each prompt."""
  rng, found = random.Random(f"judged/{given.seed}"), []
  for request, texts in read_candidates(given.candidates):
    different = sorted({*texts})
    if len(different) > 1:
      drawn = dict.fromkeys(tuple(sorted(rng.sample(different, 2))) for _ in range(given.pairs))
      # No order in the alphabet, which would tell refusals from others.
      found += [(request, *rng.sample(pair, 2)) for pair in drawn]
  if not found:
    raise InputError(f"candidates: {given.candidates} has no two different answers to a prompt, expected some")
  return found


def _row(request: WorldRequest, first: str, second: str, weighed: Weighed) -> dict[str, Any]:
  better = weighed.probability >= 0.5
  chosen, rejected = (first, second) if better else (second, first)
  return {
    **request.to_row(),
    "chosen": chosen,
    "rejected": rejected,
    "probability": max(weighed.probability, 1 - weighed.probability),
    "principle": weighed.decided,
    "veto": weighed.vetoed,
  }


def _logit(probability: float) -> float:
  bounded = min(max(probability, _LOWEST), 1 - _LOWEST)
  return math.log(bounded / (1 - bounded))
