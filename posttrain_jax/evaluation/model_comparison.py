"""Compares several models pair by pair, and ranks them.

A rate of wins counts ties as half. A model judge sees each pair in both orders: `win_rate` counts what it says in both,
`win_rate_averaged` averages what it says in the two. `win_rate_equal_length` follows length-controlled AlpacaEval 2
(arXiv:2404.04475). Deviations: there is no term for the difficulty of a question, as it is fitted with one pair of
models alone; length is in words; the regression is on wins, ties and losses, with a weak prior.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.table
import rich.text

from posttrain_jax.evaluation import labelled_pairs
from posttrain_jax.evaluation.bradley_terry import ranking
from posttrain_jax.evaluation.labelled_pairs import Label
from posttrain_jax.evaluation.metrics import Estimate
from posttrain_jax.evaluation.pairwise import PairJudge, judge_pairs

_SHOWN = {
  "win": "wins",
  "tie": "ties",
  "win_rate": "win rate, a tie is half a win",
  "win_rate_averaged": "win rate, the two orders averaged",
  "win_rate_equal_length": "win rate at equal length",
  "first_place": "preference for the first place",
  "shorter_by": "words by which answers are shorter",
}


@dataclasses.dataclass(frozen=True)
class ModelComparison:
  """Holds what was found of several models.

  Attributes:
    pairs: two models to the measures of the first one against the second one.
    strengths: Bradley-Terry strengths, the strongest first.
  """

  pairs: Mapping[tuple[str, str], Mapping[str, Estimate]]
  strengths: Mapping[str, Estimate]

  def to_json(self) -> dict[str, Any]:
    """Returns numbers with their intervals; None where there is none."""
    return {
      "pairs": {f"{one}_over_{other}": _json(found) for (one, other), found in self.pairs.items()},
      "ranking": [{"model": name, **found} for name, found in _json(self.strengths).items()],
    }

  def tables(self) -> list[rich.table.Table]:
    """Returns a table of the pairs and one of the ranking, with 95 % intervals."""
    pairs = rich.table.Table("pair", "measure", "value", title="Pairs", title_justify="left")
    for (one, other), found in self.pairs.items():
      for name in (name for name in _SHOWN if name in found):
        pairs.add_row(rich.text.Text(f"{one} over {other}"), _SHOWN[name], _cell(found[name]))
      pairs.add_section()
    ranks = rich.table.Table("model", "strength", title="Bradley-Terry, log-odds", title_justify="left")
    for name, strength in self.strengths.items():
      ranks.add_row(rich.text.Text(name), _cell(strength))
    return [pairs, ranks]


def compare_answers(
  questions: Sequence[Any], answers: Mapping[str, Sequence[Sequence[str]]], judge: PairJudge, *, seed: int
) -> ModelComparison:
  """Lets a judge compare all pairs of models.

  Args:
    questions: N, as the judge takes them.
    answers: model to S answers to each question.
    judge: prefers one of two answers.
    seed: of the intervals.

  Raises:
    InputError: if the models have not answered equally often.
  """
  names, pairs = list(answers), {}
  wins = np.zeros((len(questions), len(names), len(names)))
  for one, other in itertools.combinations(range(len(names)), 2):
    judged = judge_pairs(questions, answers[names[one]], answers[names[other]], judge)
    found = judged.result(seed=seed).measures()
    pairs[names[one], names[other]] = found | {"win_rate_averaged": judged.averaged(seed=seed)}
    wins[:, one, other] = judged.outcomes().mean(axis=1)
    wins[:, other, one] = 1 - wins[:, one, other]
  return ModelComparison(pairs, ranking(names, wins, seed=seed))


def compare_labels(labels: Sequence[Label], *, seed: int) -> ModelComparison:
  """Compares models by the labels of their answers.

  Args:
    labels: of two or more models.
    seed: of the intervals.

  Raises:
    InputError: if two models are not compared, not even through others.
  """
  names = labelled_pairs.models_of(labels)
  pairs = {pair: found.result(seed=seed).measures() for pair, found in labelled_pairs.by_pair(labels).items()}
  return ModelComparison(pairs, ranking(names, labelled_pairs.wins_of(labels, names), seed=seed))


def _json(found: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
  def number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)

  return {
    name: {"mean": number(each.mean), "low": number(each.low), "high": number(each.high)}
    for name, each in found.items()
  }


def _cell(value: Estimate) -> str:
  if np.isnan(value.mean):
    return "–"
  return f"{value.mean:.3f} \\[{value.low:.3f}, {value.high:.3f}]"
