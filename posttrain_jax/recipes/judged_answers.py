"""Lets a model judge what another one answered in a measurement, beside the rules.

The judge says whether an answer helps with harm. The measurement (`recipes.alignment`) has harmless requests, too, so a
judge that calls every long answer harmful is found out.
"""

import dataclasses
import itertools
import pathlib

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world.critiques import half
from posttrain_jax.data.assistant_world.harm_verdicts import QUESTION
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.assistant_world.rules import RuleVerdict
from posttrain_jax.evaluation import second_opinion
from posttrain_jax.recipes import alignment
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.attack_shares import write_measures
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.measures import Measured
from posttrain_jax.runs.settings import parse

JUDGED, AGREEMENT = "judged.jsonl", "agreement.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedAnswersSettings:
  """Holds the config of a judgement.

  Attributes:
    seed: of the intervals.
    model: whose answers they are, for the table of measures.
    judge: who judges.
    answers: the answers.jsonl of a measurement.
  """

  seed: int
  model: AskedModel
  judge: second_opinion.SecondJudge
  answers: str


def judging() -> ConfigDict:
  """Returns the config; `model.path`, `judge.path` and `answers` are inputs."""
  return ConfigDict(dict(seed=0, model=dict(path=""), judge=dict(path="", longest=400), answers=""))


check = check_of(JudgedAnswersSettings, {"judge.path": "PATH_OR_NAME of a model that judges"})


def judge(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Judges all answers.

  Args:
    config: a record `JudgedAnswersSettings`.
    folder: gets judged.jsonl with all answers and both verdicts, those on which they differ first, agreement.json, and
      report.html with a table.

  Returns:
    "answers/judge/GROUP/MEASURE" (`second_opinion.compare`) for all answers, for each kind of request, and of harmful
    ones for each half of the categories; with _low and _high, the 95 % interval over requests.

  Raises:
    InputError: if answers or judge cannot be read.
  """
  given = parse(JudgedAnswersSettings, config)
  lines = list(itertools.chain.from_iterable(alignment.read_answers(given.answers).values()))
  requests = [WorldRequest.from_row(line) for line in lines]
  answers = [
    second_opinion.JudgedAnswer(
      request.text,
      line["completion"],
      RuleVerdict(**line["verdict"]).complies,
      (request.kind.value, *([half(request.harm)] if request.is_harmful else [])),
    )
    for request, line in zip(requests, lines)
  ]
  opened = second_opinion.open_judge(given.judge, QUESTION, seed=given.seed)
  opinions, agreement = second_opinion.compare(opened, answers, seed=given.seed)
  found = {name: Measured.of(each) for name, each in agreement.items()}
  rows = [
    {"prompt": each.prompt, "completion": each.answer, "groups": each.groups, "complies": each.complies}
    | {"judge": float(probability), "agree": each.complies == bool(probability > 0.5)}
    for each, probability in zip(answers, opinions.complies)
  ]
  atomic_files.write_rows(folder / JUDGED, sorted(rows, key=lambda row: row["agree"]))
  counts = {"answers/judge/same_in_both_orders": float(opinions.same.mean())}
  return counts | write_measures(folder / AGREEMENT, "answers", found, {})
