"""Probes whether a model of the assistant world treats people alike who live in different places.

Each request is asked once from each place. Rules judge the answers. How a place differs from the others is told by
`evaluation.group_differences`.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import introductions, language
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.assistant_world.introductions import HARMLESS, HOMES
from posttrain_jax.data.assistant_world.questions import RequestPart
from posttrain_jax.data.assistant_world.reasoning import judge_thought
from posttrain_jax.data.assistant_world.requests import TEMPLATE, RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.taste import USUAL_TASTE, utility
from posttrain_jax.evaluation.group_differences import group_differences
from posttrain_jax.evaluation.metrics import estimate
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.attack_shares import write_measures
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.effort import Effort, drawing
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.measures import Measured
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

PROBES, DIFFERENCES = "probes.jsonl", "probes.json"
MEASURES = ("refused", "right", "rated")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeSettings:
  """Holds the config of probes.

  Attributes:
    seed: of requests, draws and intervals.
    model: what is probed.
    world: what is asked about.
    part: whether something of the requests is held out from training.
    homes: where people live, at least two.
    requests: of each kind, each of which is asked from each home.
    samples: answers to each.
    slots: answers drawn at the same time.
    max_new_tokens: cap on an answer in tokens.
  """

  seed: int
  model: AskedModel
  world: WorldSettings
  part: RequestPart
  homes: tuple[str, ...]
  requests: int = at_least(1)
  samples: int = at_least(1)
  slots: int = at_least(1)
  max_new_tokens: int = at_least(1)

  def __post_init__(self):
    """Raises InputError if the homes are unknown or too few."""
    if len({*self.homes}) < 2 or not {*self.homes} <= {*HOMES}:
      raise InputError(f"homes: {', '.join(self.homes) or 'none'}, expected at least two of {', '.join(HOMES)}")


def probes(world: Mapping[str, object]) -> ConfigDict:
  """Returns the config of probes, whose model is an input.

  Args:
    world: fields of `WorldSettings`.
  """
  return ConfigDict(
    dict(
      seed=0,
      model=dict(path=""),
      world=dict(world),
      part="all",
      homes=HOMES,
      requests=16,
      samples=2,
      slots=64,
      max_new_tokens=48,
    )
  )


check = check_of(ProbeSettings, {"model.path": "PATH_OR_NAME of a trained model"})


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the answers that are drawn."""
  model, _ = known.policy(config.model)
  count = len((*HARMLESS, RequestKind.HARM)) * config.requests * len(config.homes) * config.samples
  drawn = count * known.length(config.max_new_tokens)
  return drawing(model, examples=count, tokens=drawn)


def probe(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Asks requests from all places.

  Args:
    config: a record `ProbeSettings`.
    folder: DIR; gets probes.jsonl with all answers and verdicts, probes.json, and report.html with a table and a
      picture.

  Returns:
    Of harmless requests and of harm: "probes/harmless_refused" and so on, the mean over all places, with _low and
    _high, the 95 % interval over requests; "probes/harmless_refused/HOME", by how much a place differs from the
    others, with an interval that is corrected for their number; "probes/harmless_refused_largest", the largest
    difference in size, and "probes/harmless_refused_p", its p-value; "probes/harmless_refused_found", how many places
    differ by more than chance.

  Raises:
    InputError: if the model cannot be read or does not know the world's words.
  """
  given = parse(ProbeSettings, config)
  world = make_world(given.world)
  requests = [
    request
    for kind in (*HARMLESS, RequestKind.HARM)
    for request in introductions.probes(world, kind, given.part, given.requests, seed=given.seed)
  ]
  asked = [each for request in requests for each in introductions.asked_from(request, given.homes)]
  answers, tokens = _draw(given, [TEMPLATE.format(prompt=each.text) for each in asked])
  scores = np.array([_scores(each, texts) for each, texts in zip(asked, answers)])
  scores = scores.reshape(len(requests), len(given.homes), len(MEASURES))
  atomic_files.write_rows(folder / PROBES, _lines(given, asked, answers))
  harm = np.array([request.is_harmful for request in requests])
  found, flat = {}, {"sampling/tokens_generated": tokens}
  for part, rows in (("harmless", ~harm), ("harm", harm)):
    for number, measure in enumerate(MEASURES):
      if part == "harm" and measure == "right":
        continue  # harm has no right answer
      name = f"{part}_{measure}"
      measures, tests = differences(scores[rows, :, number], given.homes, name, seed=given.seed)
      found, flat = found | measures, flat | tests
  return flat | write_measures(folder / DIFFERENCES, "probes", found, {})


def differences(
  scores: np.ndarray, groups: Sequence[str], name: str, *, seed: int
) -> tuple[dict[str, Measured], dict[str, float]]:
  """Returns NAME, NAME/GROUP and NAME_largest of scores [N, G]; and "probes/NAME_p" and "probes/NAME_found"."""
  mean, apart = estimate(scores.mean(axis=1), seed=seed), group_differences(scores, groups, seed=seed)
  values = {name: mean, f"{name}_largest": apart.largest}
  values |= {f"{name}/{group}": value for group, value in apart.groups.items()}
  tests = {f"probes/{name}_p": apart.p_value, f"probes/{name}_found": len(apart.found)}
  return {key: Measured.of(value) for key, value in values.items()}, tests


def _draw(given: ProbeSettings, texts: Sequence[str]) -> tuple[list[list[str]], int]:
  """Draws all samples of each text."""
  longest = max(len(language.split(text)) for text in texts) + 2  # a token for each word, and a beginning
  model = TextModel(
    given.model.path,
    seed=given.seed,
    slots=given.slots,
    max_prompt_length=longest,
    max_new_tokens=given.max_new_tokens,
  )
  drawn = [model.draw(texts, attempt) for attempt in range(given.samples)]
  return [list(each) for each in zip(*(said for said, _ in drawn))], sum(tokens for _, tokens in drawn)


def _scores(request: WorldRequest, texts: Sequence[str]) -> tuple[float, ...]:
  """Returns the means of `MEASURES` over the answers to a request."""
  verdicts = [judge_thought(request, text) for text in texts]
  rated = [utility(request, text, USUAL_TASTE) for text in texts]
  return (
    float(np.mean([each.refuses for each in verdicts])),
    float(np.mean([bool(each.correct) for each in verdicts])),
    float(np.mean(rated)),
  )


def _lines(given: ProbeSettings, asked: Sequence[WorldRequest], answers: Sequence[Sequence[str]]) -> list[dict]:
  return [
    {**request.to_row(), "home": given.homes[number % len(given.homes)], "completion": text}
    | {"refuses": (verdict := judge_thought(request, text)).refuses, "correct": verdict.correct}
    for number, (request, texts) in enumerate(zip(asked, answers))
    for text in texts
  ]
