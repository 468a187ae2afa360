"""Rejection sampling: of K answers to each prompt the best by score become demonstrations (Llama 3, arXiv:2407.21783).

§4.1.3 and §4.2.2 there: K from 10 to 30, drawn from the best chat model so far, the best by the reward model kept. A
verifier's verdicts do as well as scores, with a threshold.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Candidates:
  """A prompt and its K answers.

  Attributes:
    prompt: text, or messages.
    answers: K texts, in the order in which they were drawn.
    scores: K numbers, larger is better; NaN where there is no verdict.
    row: columns that its demonstrations keep.
  """

  prompt: str | Sequence[Mapping[str, Any]]
  answers: Sequence[str]
  scores: Sequence[float]
  row: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def select(
  candidates: Iterable[Candidates], *, keep: int = 1, threshold: float | None = None, dedupe: bool = True
) -> tuple[list[dict[str, Any]], dict[str, int]]:
  """Keeps the best answers of each prompt.

  In this order: answers without a verdict go, then repeated ones (white space around them aside), then those below the
  threshold; of the rest the `keep` best stay, the one drawn first where scores are equal.

  Args:
    candidates: prompts with their answers.
    keep: the most answers of a prompt.
    threshold: the least score; None: any.
    dedupe: of answers to a prompt with the same text keep the one with the best score.

  Returns:
    (rows with "prompt", "completion" and "score", a prompt's best first; counts: "prompts", "candidates", "kept",
    "invalid", "duplicates", "below_threshold", "surplus", "prompts_without"). The last is of prompts of which nothing
    stays; every candidate is counted once among the five before it.

  Raises:
    InputError: `keep` below 1, a threshold of NaN, or not as many scores as answers.
  """
  if keep < 1 or (threshold is not None and math.isnan(threshold)):
    raise InputError(f"rejection: keep {keep}, threshold {threshold}; expected at least 1, and a number or none")
  names = ("prompts", "candidates", "kept", "invalid", "duplicates", "below_threshold", "surplus", "prompts_without")
  rows, counts = [], dict.fromkeys(names, 0)
  for group in candidates:
    if len(group.answers) != len(group.scores):
      raise InputError(f"rejection: {len(group.answers)} answers and {len(group.scores)} scores of one prompt")
    valid = [(answer, float(score)) for answer, score in zip(group.answers, group.scores) if not math.isnan(score)]
    ranked = sorted(valid, key=lambda pair: -pair[1])  # stable: what was drawn first stays first
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
