"""Reads what people said of pairs of answers whose models are known.

Two forms of rows are read, which are also preference data (`data.preference_rows`):
- {"prompt", "chosen", "rejected", "chosen_from", "rejected_from"}. A "probability" is the share of raters who prefer
  the chosen answer; ½, or "tie": true, means that neither is better. With "shown_first", which is "chosen" or
  "rejected", the raters' preference for a place is told;
- {"prompt", "answers": [...], "ranks": [...], "models": [...]}: each two answers are a pair, equal ranks are a tie.
"""

import collections
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from posttrain_jax.data.preference_rows import opening
from posttrain_jax.data.prompts import Row
from posttrain_jax.evaluation.metrics import Estimate, bootstrap, estimate
from posttrain_jax.evaluation.pairwise import RESAMPLES, PairwiseResult, equal_length_rate
from posttrain_jax.types import InputError


class Label(NamedTuple):
  """Holds one label of two answers.

  Attributes:
    question: which prompt, from 0.
    models: of the two answers.
    outcome: share of raters who prefer the first answer: 1 or 0 of one rater, ½ for a tie.
    shorter: words by which the first answer is shorter.
    first_place: how far the answer that was shown first is preferred; NaN if the row does not say.
  """

  question: int
  models: tuple[str, str]
  outcome: float
  shorter: int
  first_place: float


@dataclasses.dataclass(frozen=True)
class LabelledPairs:
  """Holds the labels of two models' answers.

  Attributes:
    labels: the outcome is that of the first model.
  """

  labels: Sequence[Label]

  def result(self, *, seed: int) -> PairwiseResult:
    """Returns the shares; the labels of one prompt count as one question together."""
    groups: dict[int, list[Label]] = {}
    for label in self.labels:
      groups.setdefault(label.question, []).append(label)
    every = list(groups.values())

    def mean(value) -> Estimate:
      return estimate(np.array([np.mean([value(label) for label in group]) for group in every]), seed=seed)

    def equal_length(used: np.ndarray) -> float:
      labels = [label for place in used for label in every[place]]
      return equal_length_rate(
        np.array([label.outcome for label in labels]), np.array([label.shorter for label in labels], np.float64)
      )

    return PairwiseResult(
      win=mean(lambda label: label.outcome > 0.5),
      tie=mean(lambda label: label.outcome == 0.5),
      loss=mean(lambda label: label.outcome < 0.5),
      win_rate=mean(lambda label: label.outcome),
      win_rate_equal_length=bootstrap(equal_length, len(every), seed=seed, resamples=RESAMPLES),
      first_place=mean(lambda label: label.first_place),
      shorter_by=mean(lambda label: label.shorter),
    )


def read_labels(rows: Sequence[Row]) -> tuple[list[Label], int]:
  """Reads labels.

  Args:
    rows: of the forms above.

  Returns:
    (labels, number of pairs left out because both answers are of one model).

  Raises:
    InputError: if a row has another form, or if no label is left.
  """
  questions: dict[str, int] = {}
  labels, alike = [], 0
  for row in rows:
    prompt = json.dumps(opening(row.columns) if "prompt" not in row.columns else row.columns["prompt"], sort_keys=True)
    question = questions.setdefault(prompt, len(questions))
    for models, outcome, texts, first_place in _said(row):
      if models[0] == models[1]:
        alike += 1
        continue
      shorter = len(_words(texts[1])) - len(_words(texts[0]))
      labels.append(Label(question, models, outcome, shorter, first_place))
  if not labels:
    raise InputError(f"{rows[0].source.rsplit(':', 1)[0]}: no pair of answers of two models, expected some")
  return labels, alike


def by_pair(labels: Sequence[Label]) -> dict[tuple[str, str], LabelledPairs]:
  """Sorts labels by their two models, each pair in one order."""
  found = collections.defaultdict(list)
  names = models_of(labels)
  for label in labels:
    one, other = label.models
    if names.index(one) < names.index(other):
      found[one, other].append(label)
    else:
      swapped = label._replace(models=(other, one), outcome=1 - label.outcome, shorter=-label.shorter)
      found[other, one].append(swapped)
  return {pair: LabelledPairs(each) for pair, each in sorted(found.items())}


def models_of(labels: Sequence[Label]) -> list[str]:
  """Returns the names of the models, sorted."""
  return sorted({name for label in labels for name in label.models})


def wins_of(labels: Sequence[Label], names: Sequence[str]) -> np.ndarray:
  """Counts wins, float [N, K, K], as `bradley_terry.ranking` takes them."""
  questions = {number: place for place, number in enumerate(dict.fromkeys(label.question for label in labels))}
  wins = np.zeros((len(questions), len(names), len(names)))
  for label in labels:
    one, other = (names.index(name) for name in label.models)
    wins[questions[label.question], one, other] += label.outcome
    wins[questions[label.question], other, one] += 1 - label.outcome
  return wins


def _said(row: Row) -> list[tuple[tuple[str, str], float, tuple[Any, Any], float]]:
  """Returns (models, outcome, answers, first place) of each pair of a row."""
  columns = row.columns
  if "models" in columns:
    lists = [columns.get(name) for name in ("models", "answers", "ranks")]
    if not all(isinstance(each, list) and len(each) == len(lists[0]) >= 2 for each in lists):
      raise InputError(f"{row.source}: expected lists 'models', 'answers' and 'ranks' of one length, at least 2")
    every = list(zip(*lists))
    _check_names(row, lists[0])
    return [
      ((one, other), _outcome(rank, other_rank), (text, other_text), np.nan)
      for (one, text, rank), (other, other_text, other_rank) in itertools.combinations(every, 2)
    ]
  names = ("chosen", "rejected", "chosen_from", "rejected_from")
  missing = [repr(name) for name in names if columns.get(name) is None]
  if missing:
    raise InputError(
      f"{row.source}: no {' and no '.join(missing)} among the columns {', '.join(columns) or 'none'}; expected a "
      "preference row with the names of its models"
    )
  models = (columns["chosen_from"], columns["rejected_from"])
  _check_names(row, models)
  tie, first, share = columns.get("tie"), columns.get("shown_first"), columns.get("probability")
  if tie not in (None, False, True) or first not in (None, "chosen", "rejected"):
    raise InputError(f"{row.source}: expected 'tie' as true or false, 'shown_first' as 'chosen' or 'rejected'")
  if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0.5 <= share <= 1):
    raise InputError(f"{row.source}: probability is {share!r:.40}, expected a number from 0.5 to 1")
  outcome = 0.5 if tie else 1.0 if share is None else float(share)
  place = np.nan if first is None else outcome if first == "chosen" else 1 - outcome
  return [(models, outcome, (columns["chosen"], columns["rejected"]), place)]


def _check_names(row: Row, names: Sequence[Any]) -> None:
  for name in names:
    if not isinstance(name, str) or not name:
      raise InputError(f"{row.source}: a model's name is {name!r}, expected text")


def _outcome(rank: float, other: float) -> float:
  return 0.5 if rank == other else float(rank < other)


def _words(answer: str | Sequence[Mapping[str, Any]]) -> list[str]:
  text = answer if isinstance(answer, str) else str(answer[-1].get("content") or "") if answer else ""
  return text.split()
