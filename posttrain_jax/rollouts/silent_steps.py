"""Says why a step trained nothing, and shows the answers that it saw.

A step whose groups are all right, all wrong, cut off or without a verdict has advantages of 0 only. It costs as much as
any other and changes nothing, so it must not look like success.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from posttrain_jax.types import Group

TRAINED_NOTHING = "sampling/trained_nothing"  # the metric: 1 for a step that trained nothing, else 0
_SHOWN, _LONGEST = 3, 160  # sampled answers in the warning, and characters of each: its end


def trained_nothing(advantages: np.ndarray, mask: np.ndarray) -> bool:
  """Tells whether no counted token of a step has an advantage.

  Args:
    advantages: float [P, G, T], or [P, G, 1] if the tokens of an answer have the same.
    mask: bool [P, G, T], tokens that count.
  """
  return not bool(np.any(np.where(mask, advantages, 0)))


def warning(step: int, metrics: Mapping[str, float], groups: Sequence[Group], find: Callable[[str], str | None]) -> str:
  """Returns several lines that say why a step trained nothing.

  Args:
    step: the step.
    metrics: its metrics, as `rollouts.metrics.describe` names them.
    groups: the groups it judged; the first answers of them are shown.
    find: text to its final answer, as the verifier reads it.
  """
  lines = [f"warning: step {step} trained nothing: {reason(metrics)}. The first answers:"]
  samples = [(group, index) for group in groups for index in range(min(2, len(group.texts)))]
  for group, index in samples[:_SHOWN]:
    text = " ".join(group.texts[index].split())
    shown = text if len(text) <= _LONGEST else "…" + text[-_LONGEST:]
    reward = f"{group.rewards[index]:g}" if group.valid[index] else "none"
    wanted = group.prompt.row.get("answer")
    lines.append(f"  {shown!r}: read as {find(group.texts[index])!r}, reference {wanted!r:.80}, reward {reward}")
  return "\n".join(lines)


def reason(metrics: Mapping[str, float]) -> str:
  """Says in words what the groups of steps that trained nothing were like."""
  names = {"all_wrong": "all wrong", "all_right": "all right", "invalid": "without a verdict"}
  counts = {words: metrics.get(f"sampling/dropped_{name}", 0) for name, words in names.items()}
  found = [f"{count:g} groups {words}" for words, count in counts.items() if count > 0]
  parts = [", ".join(found) or "all rewards of a group are equal"]
  for name, words in (("truncated/share", "truncated"), ("reward/timed_out", "timed out in a verifier")):
    share = metrics.get(name, 0)
    if not math.isnan(share) and share > 0:
      parts.append(f"{share:.0%} of the answers {words}")
  return "; ".join(parts)


def timeouts(step: int, metrics: Mapping[str, float]) -> str:
  """Says on what share of a step's answers a verifier ran out of time.

  It is "" for none.
  """
  share = metrics.get("reward/timed_out", 0)
  return (
    f"step {step}: a verifier ran out of time on {share:.1%} of the answers (reward/timed_out)" if share > 0 else ""
  )


class SilentSteps:
  """Counts the steps of this process that trained nothing."""

  def __init__(self):
    """Starts with no step."""
    self.steps = self.silent = 0

  def add(self, silent: bool) -> bool:
    """Counts a step; returns whether it is to be shown.

    Of silent steps in a row the first, second, fourth, eighth, ... is shown.
    """
    self.steps += 1
    self.silent = self.silent + 1 if silent else 0
    return self.shown

  @property
  def shown(self) -> bool:
    """Tells whether the newest step trained nothing and is to be shown."""
    return self.silent > 0 and self.silent & (self.silent - 1) == 0

  def lines(
    self, step: int, metrics: Mapping[str, float], groups: Sequence[Group], find: Callable[[str], str | None]
  ) -> list[str]:
    """Counts a step by its metric `TRAINED_NOTHING`, and returns what is to be said of it.

    Args:
      step: the step.
      metrics: as in `warning`, and `TRAINED_NOTHING`.
      groups: as in `warning`.
      find: as in `warning`.
    """
    shown = self.add(bool(metrics[TRAINED_NOTHING]))
    late = timeouts(step, metrics)
    return [*([warning(step, metrics, groups, find)] if shown else []), *([late] if late else [])]

  @property
  def ending(self) -> str:
    """Returns what to say at the end; "" if the last step trained something."""
    if not self.silent:
      return ""
    if self.silent == self.steps:
      return (
        f"warning: none of the {self.steps} steps trained anything; the policy is the one that training started from"
      )
    return f"warning: the last {self.silent} steps trained nothing"
