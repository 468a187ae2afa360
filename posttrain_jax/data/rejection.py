"""Selects the best of K answers to each prompt as demonstrations.

This is the rejection sampling of Llama 3 (arXiv:2407.21783, §4.1.3 and §4.2.2). There, the best chat model so far draws
K = 10 to 30 answers, and the answer with the best score of the reward model is kept. A verifier's verdicts can be used
as scores, together with a threshold.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Candidates:
  """Holds a prompt, its K answers and their scores.

  Attributes:
    prompt: text, or messages.
    answers: K texts, in the order in which they were drawn.
    scores: K numbers; larger is better, NaN means no verdict.
    row: columns that the demonstrations keep.
  """

  prompt: str | Sequence[Mapping[str, Any]]
  answers: Sequence[str]
  scores: Sequence[float]
  row: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def select(
  candidates: Iterable[Candidates], *, keep: int = 1, threshold: float | None = None, dedupe: bool = True
) -> tuple[list[dict[str, Any]], dict[str, int]]:
  """Keeps the best answers of each prompt.

  Answers are removed in this order: first those without a verdict, then repeated ones (white space around them is
  ignored), then those below the threshold. Of the rest, the `keep` best stay. If scores are equal, the answer that was
  drawn first is the better one.

  Args:
    candidates: prompts with their answers.
    keep: largest number of answers kept per prompt.
    threshold: lowest score that is kept; None: any score.
    dedupe: if answers to a prompt have the same text, keep only the one with the best score.

  Returns:
    (rows, counts). Rows have "prompt", "completion" and "score"; the best answer of a prompt comes first. Counts are
    "prompts", "candidates", "kept", "invalid", "duplicates", "below_threshold", "surplus" and "prompts_without". Every
    candidate is counted in exactly one of "kept" to "surplus". "prompts_without" counts prompts without a kept answer.

  Raises:
    InputError: if `keep` is below 1, if `threshold` is NaN, or if a prompt does not have as many scores as answers.
  """
  if keep < 1 or (threshold is not None and math.isnan(threshold)):
    raise InputError(f"rejection: keep {keep}, threshold {threshold}; expected at least 1, and a number or none")
  names = ("prompts", "candidates", "kept", "invalid", "duplicates", "below_threshold", "surplus", "prompts_without")
  rows, counts = [], dict.fromkeys(names, 0)
  for group in candidates:
    if len(group.answers) != len(group.scores):
      raise InputError(f"rejection: {len(group.answers)} answers and {len(group.scores)} scores of one prompt")
    valid = [(answer, float(score)) for answer, score in zip(group.answers, group.scores) if not math.isnan(score)]
    ranked = sorted(valid, key=lambda pair: -pair[1])  # stable: equal scores keep the order of drawing
    best = {}
    for i, (answer, score) in enumerate(ranked):
      best.setdefault(answer.strip() if dedupe else i, (answer, score))
    different = list(best.values())
    good = [pair for pair in different if threshold is None or pair[1] >= threshold]
    rows += [{**group.row, "prompt": group.prompt, "completion": text, "score": score} for text, score in good[:keep]]
    counts["prompts"] += 1
    counts["candidates"] += len(group.answers)
    counts["kept"] += len(good[:keep])
    counts["invalid"] += len(group.answers) - len(valid)
    counts["duplicates"] += len(valid) - len(different)
    counts["below_threshold"] += len(different) - len(good)
    counts["surplus"] += len(good[keep:])
    counts["prompts_without"] += not good
  return rows, counts
