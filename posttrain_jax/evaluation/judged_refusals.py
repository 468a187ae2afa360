"""Lets a model judge beside the rule whether answers of an evaluation refuse."""

from collections.abc import Sequence

import numpy as np

from posttrain_jax.data.prompts import own_prompt
from posttrain_jax.evaluation.compliance_judge import ComplianceJudge
from posttrain_jax.evaluation.second_opinion import JudgedAnswer, compare
from posttrain_jax.rewards.refusals import refuses
from posttrain_jax.types import Group


def judge_refusals(
  groups: Sequence[Group], judge: ComplianceJudge, columns: Sequence[str], *, seed: int = 0
) -> tuple[dict[str, float], list[dict[str, float | bool]]]:
  """Judges all answers.

  Args:
    groups: of an evaluation whose prompts are texts.
    judge: the model.
    columns: of the rows, by whose values the agreement is told apart, too.
    seed: of the intervals.

  Returns:
    ("judge/GROUP/MEASURE" of `second_opinion.compare` with _low and _high, the rule's yes being that an answer does not
    refuse; of each answer in order "refuses", by the rule, and "judge", the probability that it complies).
  """
  answers = [
    JudgedAnswer(
      str(own_prompt(group.prompt.row)),
      text,
      not refuses(text),
      tuple(str(group.prompt.row[column]) for column in columns if group.prompt.row.get(column)),
    )
    for group in groups
    for text in group.texts
  ]
  opinions, found = compare(judge, answers, seed=seed)
  metrics = {"judge/same_in_both_orders": float(np.mean(opinions.same))}
  for name, each in found.items():
    metrics |= {name: each.mean, f"{name}_low": each.low, f"{name}_high": each.high}
  lines = [
    {"refuses": not each.complies, "judge": float(probability)} for each, probability in zip(answers, opinions.complies)
  ]
  return metrics, lines
