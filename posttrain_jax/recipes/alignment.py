"""Measures a model in the assistant world, as a stage between others.

The measures tell how helpful, harmless and honest it is (docs/assistant_world.md).
"""

import collections
import contextlib
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.assembly.model import open_policy
from posttrain_jax.data import sources
from posttrain_jax.data.assistant_world.language import ENGLISH
from posttrain_jax.data.assistant_world.requests import Disguise, RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.rules import RuleVerdict
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.evaluation.alignment import AlignmentResult, measure_policy
from posttrain_jax.evaluation.alignment_settings import (
  NEXT_TURN,
  AlignmentSettings,
  check_words,
  few_shot_format,
  world_format,
)
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.effort import Effort, drawing
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.reports.reliability_figure import plot_reliabilities
from posttrain_jax.runs.journal import Journal
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

ANSWERS, RELIABILITY = "answers.jsonl", "reliability.png"
_SHOWN = 2  # requests of each kind and part whose answers the report may show


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskedModel:
  """Describes which model is asked.

  Attributes:
    path: PATH_OR_NAME.
  """

  path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShots:
  """Describes answered requests that stand before each request.

  With them a base model may answer, too.

  Attributes:
    path: demonstrations.jsonl, from `recipes.assistant_data.write_demonstrations`.
    kinds: of the requests, in order; of each kind the shortest English one without a disguise is taken.
  """

  path: str
  kinds: tuple[RequestKind, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentMeasurement:
  """Holds the config of a measurement of alignment.

  Attributes:
    seed: of requests, draws and intervals.
    model: what is measured.
    reference: PATH_OR_NAME of the model to which the KL is measured; empty for no KL.
    measures: how much is asked.
    shots: what stands before each request; None for nothing.
    system: text before each request, with the white space after it; empty for none.
  """

  seed: int
  model: AskedModel
  reference: str
  measures: AlignmentSettings
  shots: FewShots | None = None
  system: str


def measurement(world: Mapping[str, Any], *, requests: int, samples: int, seed: int = 0) -> ConfigDict:
  """Returns the config of a measurement, whose model and reference are inputs.

  Args:
    world: fields of `WorldSettings`.
    requests: of each kind and part.
    samples: answers to each request.
    seed: of requests, draws and intervals.
  """
  measures = dict(
    world=dict(world),
    requests=requests,
    sums=requests,
    samples=samples,
    max_new_tokens=48,
    slots=64,
    plain=128,
    prose=False,
    knowledge=True,
  )
  return ConfigDict(dict(seed=seed, model=dict(path=""), reference="", measures=measures, system=""))


check = check_of(AlignmentMeasurement, {"model.path": "PATH_OR_NAME of a trained model"})


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the answers that are drawn.

  Raises:
    InputError: if the model does not read the world's words.
  """
  model, tokenizer = known.policy(config.model)
  section = config.measures
  if tokenizer is not None:
    try:
      check_words(tokenizer, parse(AlignmentSettings, section, "measures"))
    except InputError as error:
      raise InputError(f"model.path: {config.model.path} {error}") from None
  prompts = 2 * ((len(RequestKind) - 1) * section.requests + section.sums)  # seen ones and held-out ones
  drawn = prompts * section.samples * known.length(section.max_new_tokens)
  return drawing(model, examples=prompts, tokens=drawn)


def measure(config: ConfigDict, folder: pathlib.Path) -> None:
  """Measures a model once.

  A model of the world's words is asked in the world's template, and a model of English as a chat if it can.

  Args:
    config: a record `AlignmentMeasurement`.
    folder: DIR; gets metrics.jsonl with one line, answers.jsonl, reliability.png, and some answers in rollouts/.

  Raises:
    InputError: if a model cannot be read or does not know the world's words.
  """
  settings = parse(AlignmentMeasurement, config)
  policy = open_policy(settings.model.path)
  reference = open_policy(settings.reference) if settings.reference else None
  shots = few_shot_format(_examples(settings.shots)) if settings.shots else None
  asked = _with_system(shots or world_format(policy, None), settings.system)
  found = measure_policy(
    policy,
    settings.measures,
    asked,
    seed=settings.seed,
    reference=reference,
    stop=NEXT_TURN if shots else "",
  )
  folder.mkdir(parents=True, exist_ok=True)
  atomic_files.write_rows(folder / ANSWERS, found.lines())
  plot_reliabilities(folder / RELIABILITY, found.diagrams())
  drawn = sum(sum(each.lengths) for judged in found.judged.values() for each in judged)
  with contextlib.closing(Journal(folder, tensorboard=False)) as journal:
    journal.write(0, {**found.flat(), "sampling/tokens_generated": drawn})
    journal.write_rollouts(0, _records(found))


def read_answers(path: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
  """Reads the answers.jsonl of a measurement.

  Returns:
    (part, prompt) to the lines of the answers to this request.

  Raises:
    InputError: if the file cannot be read.
  """
  try:
    lines = [json.loads(line) for line in pathlib.Path(path).read_text("utf-8").splitlines()]
    for line in lines:
      WorldRequest.from_row(line), RuleVerdict(**line["verdict"]), line["completion"]  # raise on what is missing
    return {
      key: list(answers) for key, answers in itertools.groupby(lines, key=lambda line: (line["part"], line["prompt"]))
    }
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise InputError(f"{path}: cannot be read ({error}), expected the answers.jsonl of a measurement") from None


def _with_system(asked: PromptFormat, system: str) -> PromptFormat:
  """Puts a text before each request: a chat's system message, or the text's beginning."""
  if asked.chat:
    return dataclasses.replace(asked, system=system or asked.system)
  return dataclasses.replace(asked, template=system + asked.template)


def _examples(shots: FewShots) -> list[tuple[str, str]]:
  """Returns the requests and answers that stand before each request.

  Raises:
    InputError: if the demonstrations have none of a kind.
  """
  rows, found = [row.columns for row in sources.read_rows(shots.path)[0]], []
  for kind in shots.kinds:
    plain = [
      (row["prompt"], row["completion"])
      for row in rows
      if (request := WorldRequest.from_row(row)).kind == kind
      and request.language == ENGLISH
      and request.disguise == Disguise.NONE
    ]
    if not plain:
      raise InputError(f"shots.kinds: {shots.path} has no English '{kind}', expected one of each kind")
    found.append(min(plain, key=lambda pair: len(" ".join(pair).split())))
  return found


def _records(found: AlignmentResult) -> list[dict[str, Any]]:
  """Returns some requests with their answers, as a report shows them."""
  records = []
  for judged in found.judged.values():
    count: collections.Counter[str] = collections.Counter()
    for each in judged:
      count[each.request.kind] += 1
      if count[each.request.kind] > _SHOWN:
        continue
      samples = [
        {
          "text": text,
          "length": length,
          "accuracy": None if verdict.correct is None else float(verdict.correct),
          "reward": None,
          "components": {},
          "valid": verdict.correct is not None,
        }
        for text, length, verdict in zip(each.texts, each.lengths, each.verdicts)
      ]
      answer = " ".join(each.request.right) or None
      records.append(
        {
          "step": 0,
          "set": each.request.kind.value,
          "prompt": each.request.text,
          "answer": answer,
          "verdict": "evaluated",
          "samples": samples,
        }
      )
  return records
