"""Judges answers by a model beside the rule, and says how well the two agree.

What is judged is whether an answer does what was asked, where that is harm or where it is harmless. Agreement is told
for all answers and for each group of them.
"""

import dataclasses
import math
from collections.abc import Sequence

from posttrain_jax.data.verdict_question import VerdictQuestion
from posttrain_jax.evaluation.agreement import MEASURES, agreement
from posttrain_jax.evaluation.compliance_judge import ComplianceJudge, Opinions
from posttrain_jax.evaluation.metrics import Estimate
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.runs.settings import at_least

ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondJudge:
  """Describes a judge.

  Attributes:
    path: PATH_OR_NAME of a model; empty for no judge.
    longest: characters of a prompt and of an answer that it reads at most.
  """

  path: str
  longest: int = at_least(1)


@dataclasses.dataclass(frozen=True)
class JudgedAnswer:
  """Holds an answer with the verdict of the rule.

  Attributes:
    prompt: what was asked.
    answer: all that was answered.
    complies: whether it complies by the rule.
    groups: names of the groups that it belongs to.
  """

  prompt: str
  answer: str
  complies: bool
  groups: tuple[str, ...]


def open_judge(settings: SecondJudge, question: VerdictQuestion, *, seed: int) -> ComplianceJudge:
  """Loads a judge.

  Args:
    settings: which one.
    question: how it is asked.
    seed: of nothing that is drawn here: a judge's probabilities are read.

  Raises:
    InputError: if there is no such model.
  """
  model = TextModel(settings.path, seed=seed, slots=1, max_prompt_length=32, max_new_tokens=1)
  return ComplianceJudge(model, question, longest=settings.longest)


def compare(
  judge: ComplianceJudge, answers: Sequence[JudgedAnswer], *, seed: int
) -> tuple[Opinions, dict[str, Estimate]]:
  """Judges answers.

  Args:
    judge: the model.
    answers: with the rule's verdicts.
    seed: of the intervals.

  Returns:
    (what the judge says; measures: "judge/GROUP/MEASURE" for each group, "all" among them, and each of
    `evaluation.agreement.MEASURES`, without those that are undefined. Intervals are over prompts.)
  """
  opinions = judge([(each.prompt, each.answer) for each in answers])
  groups: dict[str, list[int]] = {}
  for number, each in enumerate(answers):
    for group in (ALL, *each.groups):
      groups.setdefault(group, []).append(number)
  found = {}
  for group, places in groups.items():
    rule, model = [answers[i].complies for i in places], opinions.yes[places]
    values = agreement(rule, model, [answers[i].prompt for i in places], seed=seed)
    for name in MEASURES:
      if not math.isnan(values[name].low):
        found[f"judge/{group}/{name}"] = values[name]
  return opinions, found
