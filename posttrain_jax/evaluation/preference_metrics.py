"""Measures how well scores agree with held-out comparisons, and whether they follow length.

A comparison counts as right where the winner scores higher, half where the scores are equal. Comparisons of one prompt
are alike: where clusters are given, they are what the intervals resample, not pairs.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from posttrain_jax.evaluation import calibration
from posttrain_jax.types import InputError


def pair_metrics(
  winner_scores: np.ndarray,
  loser_scores: np.ndarray,
  strengths: Sequence[str | None],
  winner_lengths: np.ndarray,
  loser_lengths: np.ndarray,
  *,
  clusters: Sequence[Hashable] | None = None,
  bins: int = 10,
  seed: int = 0,
  resamples: int = 1000,
) -> dict[str, float]:
  """Computes metrics of scores on N comparisons.

  Args:
    winner_scores: float [N], of the answers that people preferred.
    loser_scores: float [N], of the others.
    strengths: N names of how clear the preference was; None: unknown, in no strength's row.
    winner_lengths: [N], tokens of the preferred answers.
    loser_lengths: [N], of the others.
    clusters: N names of what comparisons have in common, such as the prompt; None: every pair is on its own.
    bins: of the calibration error.
    seed: of the bootstrap; equal inputs and seeds give equal intervals.
    resamples: of the bootstrap.

  Returns:
    pairs, clusters: how many there are;
    accuracy, accuracy_low, accuracy_high: share of pairs in the right order, with its 95 % interval;
    strength/<name>/accuracy, _low, _high and strength/<name>/pairs: the same of one strength, names in sorted order;
    margin_mean, margin_std: of winner minus loser;
    score_mean, score_std, score_p05, score_p50, score_p95: of all 2N scores;
    log_loss: mean −log σ(margin), what training minimises; log 2 for scores that say nothing;
    brier: mean (1 − σ(margin))²; ¼ for scores that say nothing;
    ece: calibration error of σ(|margin|), see `calibration.pair_confidence`;
    length_pearson, length_spearman: correlation of score and length over all 2N answers; NaN where either is constant;
    winner_longer: share of pairs in which the winner is the longer one, ties half: the accuracy of length as a score;
    longer_wins/accuracy, shorter_wins/accuracy, with _low and _high: the accuracy where the winner is the longer one,
    and where it is the shorter one; a name without pairs is left out;
    length_controlled: the mean of these two, where both are there: length as a score gets ½.

  Raises:
    InputError: if there are no pairs, if lengths differ, or if a score is not finite.
  """
  given = (winner_scores, loser_scores, winner_lengths, loser_lengths)
  winner, loser, winner_lengths, loser_lengths = (np.asarray(x, np.float64) for x in given)
  pairs = len(winner)
  clusters = range(pairs) if clusters is None else clusters
  sizes = [len(x) for x in (winner, loser, strengths, winner_lengths, loser_lengths, clusters)]
  if pairs == 0 or set(sizes) != {pairs}:
    raise InputError(
      "preference metrics: winner_scores, loser_scores, strengths, winner_lengths, loser_lengths and clusters have"
      f" {', '.join(map(str, sizes))} entries, expected one number above 0"
    )
  for name, scores in (("winner_scores", winner), ("loser_scores", loser)):
    if not np.isfinite(scores).all():
      where = int(np.argmin(np.isfinite(scores)))
      raise InputError(f"preference metrics: {name}[{where}] is {scores[where]}, expected a finite score")
  number = {}
  cluster = np.array([number.setdefault(name, len(number)) for name in clusters])
  margins = winner - loser
  correct = (np.sign(margins) + 1) / 2
  metrics = {"pairs": pairs, "clusters": len(number)}
  metrics |= _accuracy("accuracy", correct, cluster, seed, resamples)
  for strength in sorted({s for s in strengths if s is not None}):
    rows = np.array([s == strength for s in strengths])
    metrics |= _accuracy(f"strength/{strength}/accuracy", correct[rows], cluster[rows], seed, resamples)
    metrics[f"strength/{strength}/pairs"] = int(rows.sum())
  by_length = {"longer_wins": winner_lengths > loser_lengths, "shorter_wins": winner_lengths < loser_lengths}
  for name, rows in by_length.items():
    if rows.any():
      metrics |= _accuracy(f"{name}/accuracy", correct[rows], cluster[rows], seed, resamples)
  if all(rows.any() for rows in by_length.values()):
    metrics["length_controlled"] = float(np.mean([metrics[f"{name}/accuracy"] for name in by_length]))
  scores, lengths = np.concatenate([winner, loser]), np.concatenate([winner_lengths, loser_lengths])
  low, middle, high = np.percentile(scores, (5, 50, 95))
  return metrics | {
    "margin_mean": float(margins.mean()),
    "margin_std": float(margins.std()),
    "score_mean": float(scores.mean()),
    "score_std": float(scores.std()),
    "score_p05": float(low),
    "score_p50": float(middle),
    "score_p95": float(high),
    "log_loss": float(np.logaddexp(0, -margins).mean()),
    "brier": float(np.square(np.exp(-np.logaddexp(0, margins))).mean()),
    "ece": calibration.expected_calibration_error(*calibration.pair_confidence(margins), bins=bins),
    "length_pearson": _correlation(scores, lengths),
    "length_spearman": _correlation(_ranks(scores), _ranks(lengths)),
    "winner_longer": float((np.sign(winner_lengths - loser_lengths) + 1).mean() / 2),
  }


def _accuracy(key: str, correct: np.ndarray, cluster: np.ndarray, seed: int, resamples: int) -> dict[str, float]:
  low, high = cluster_interval(correct, cluster, seed=seed, resamples=resamples)
  return {key: float(correct.mean()), f"{key}_low": low, f"{key}_high": high}


def cluster_interval(
  values: np.ndarray, clusters: np.ndarray, *, seed: int = 0, resamples: int = 1000
) -> tuple[float, float]:
  """Computes the 95 % percentile bootstrap interval of a mean over clustered values (Efron 1979).

  Clusters are drawn with replacement, each with all its values. Where all clusters have the same mean, resampling
  them shows no spread, however few they are; the interval is then Wilson's, of as many observations as clusters.

  Args:
    values: float [N] in [0, 1].
    clusters: integer [N], which values belong together.
    seed: of the resampling.
    resamples: how often as many clusters as there are get drawn.
  """
  _, cluster = np.unique(clusters, return_inverse=True)
  total, size = np.bincount(cluster, weights=values), np.bincount(cluster)
  if np.ptp(total / size) == 0:
    low, high = calibration.wilson_interval(np.mean(values), len(size))
    return float(low), float(high)
  rng = np.random.default_rng(seed)
  draws = (rng.integers(len(size), size=len(size)) for _ in range(resamples))
  low, high = np.percentile([total[drawn].sum() / size[drawn].sum() for drawn in draws], (2.5, 97.5))
  return float(low), float(high)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
  if np.ptp(x) == 0 or np.ptp(y) == 0:
    return float("nan")
  return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
  """Ranks from 1; equal values share the mean of theirs."""
  _, index, count = np.unique(values, return_inverse=True, return_counts=True)
  return (np.cumsum(count) - (count - 1) / 2)[index]
