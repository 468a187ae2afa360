"""Measures how far raters agree beyond chance.

Cohen's kappa is between two raters, over the items that both rated (scikit-learn computes it). Krippendorff's alpha is
over all raters, with items that some of them did not rate (the package `krippendorff` computes it). Both are 1 if all
agree, and 0 if they agree as often as chance would. They are not defined if all labels are the same: then they are
None, which says nothing about the raters.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from posttrain_jax.data.preference_rows import Strength
from posttrain_jax.labelling.consensus import sign
from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.votes import Vote
from posttrain_jax.types import InputError

# A unit that is rated, such as an item; each rater's value of it.
Table = Mapping[Hashable, Mapping[str, float]]


def check_installed() -> None:
  """Refuses to go on without the libraries.

  Raises:
    InputError: if one is missing.
  """
  try:
    import krippendorff  # noqa: F401
    import sklearn.metrics  # noqa: F401
  except ImportError as error:
    raise InputError(f"agreement needs {error.name}: pip install 'posttrain_jax[label]'") from None


def agreement(kind: RatingKind, votes: Mapping[str, Sequence[Vote]], raters: Sequence[str]) -> dict[str, Any]:
  """Measures the agreement of a study.

  Args:
    kind: what raters do. Demonstrations have nothing to agree on.
    votes: on each item.
    raters: of the study.

  Returns:
    For "choices" (which answer is better, on the nominal scale) and "strengths" (from significantly worse to
    significantly better, ordinal), or "orders" of two answers (nominal) and "ranks" (ordinal), or "accepted" (nominal):
    "alpha", "units" and "labels", the numbers of what at least two raters rated and of their labels; and for nominal
    scales "kappa", for each two raters {"raters", "kappa", "units", "same"}, "same" the share of equal labels.
  """
  found = {}
  for name, (level, table) in _tables(kind, votes).items():
    found[name] = krippendorff_alpha(table, raters, level)
    if level == "nominal":
      pairs = [cohen_kappa(table, *both) for both in itertools.combinations(raters, 2)]
      found[name]["kappa"] = [each for each in pairs if each["units"]]
  return found


def cohen_kappa(table: Table, first: str, second: str) -> dict[str, Any]:
  """Computes Cohen's kappa of two raters over what both rated."""
  from sklearn.metrics import cohen_kappa_score

  both = [(values[first], values[second]) for values in table.values() if first in values and second in values]
  kappa = math.nan
  if len(set(itertools.chain.from_iterable(both))) > 1:  # else chance agrees always, too
    kappa = float(cohen_kappa_score(*zip(*both)))
  same = round(sum(a == b for a, b in both) / len(both), 4) if both else None
  return {"raters": [first, second], "kappa": _number(kappa), "units": len(both), "same": same}


def krippendorff_alpha(table: Table, raters: Sequence[str], level: str) -> dict[str, Any]:
  """Computes Krippendorff's alpha over what at least two raters rated."""
  import krippendorff

  shared = [values for values in table.values() if len(values) > 1]
  given = [value for values in shared for value in values.values()]
  alpha = math.nan
  if len(set(given)) > 1:
    data = [[values.get(rater, math.nan) for values in shared] for rater in raters]
    alpha = float(krippendorff.alpha(reliability_data=data, level_of_measurement=level))
  return {"alpha": _number(alpha), "level": level, "units": len(shared), "labels": len(given)}


def signed_strength(label: Mapping[str, Any]) -> int:
  """Returns how much better a pair's second answer is, from -4 to 4."""
  if label["better"] is None:
    return 0
  size = len(Strength) - list(Strength).index(Strength(label["strength"]))
  return size if label["better"] else -size


def _tables(kind: RatingKind, votes: Mapping[str, Sequence[Vote]]) -> dict[str, tuple[str, Table]]:
  """Returns the name of each scale, its level, and the labels on it."""
  if kind == RatingKind.PAIRS:
    strengths = {item: {vote.rater: signed_strength(vote.label) for vote in said} for item, said in votes.items()}
    choices = {item: {rater: sign(value) for rater, value in values.items()} for item, values in strengths.items()}
    return {"choices": ("nominal", choices), "strengths": ("ordinal", strengths)}
  if kind == RatingKind.RANKING:
    ranks = {item: {vote.rater: vote.label["ranks"] for vote in said} for item, said in votes.items()}
    count = {item: len(next(iter(values.values()))) for item, values in ranks.items()}
    orders = {
      (item, i, j): {rater: sign(given[i] - given[j]) for rater, given in values.items()}
      for item, values in ranks.items()
      for i, j in itertools.combinations(range(count[item]), 2)
    }
    places = {
      (item, i): {rater: given[i] for rater, given in values.items()}
      for item, values in ranks.items()
      for i in range(count[item])
    }
    return {"orders": ("nominal", orders), "ranks": ("ordinal", places)}
  if kind == RatingKind.ACCEPT:
    accepted = {item: {vote.rater: int(vote.label["accepted"]) for vote in said} for item, said in votes.items()}
    return {"accepted": ("nominal", accepted)}
  return {}


def _number(value: float) -> float | None:
  return None if math.isnan(value) else round(value, 4)
