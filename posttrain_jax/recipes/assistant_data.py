"""Writes the data of the assistant world's recipes: demonstrations, prompts, rankings, comparisons and text.

Each function is a stage of a recipe (`recipes.runners.function`). It takes the stage's config and an empty folder, and
returns counts. What people would write or judge is written or judged here by the rules of the world.
"""

import json
import pathlib
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import raters
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.answers import demonstrations as answered
from posttrain_jax.data.assistant_world.corpus import corpus
from posttrain_jax.data.assistant_world.facts import World, WorldSettings, make_world
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest
from posttrain_jax.pipelines.collect import PAIRS
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import convert
from posttrain_jax.types import InputError

DEMONSTRATIONS, PROMPTS, RANKINGS, COMPARISONS = (
  f"{name}.jsonl" for name in ("demonstrations", "prompts", "rankings", "comparisons")
)
DOCUMENTS = "documents.jsonl"


def write_demonstrations(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets one author answer requests of which nothing is held out.

  Args:
    config: `world`; `seed`; `kinds`, number of requests of each kind; `author`, a value of `Author`.
    folder: gets demonstrations.jsonl.
  """
  if config.author not in list(Author):
    raise InputError(f"author: {config.author!r}, expected one of {', '.join(Author)}")
  rows = answered(_world(config), _requests(config), Author(config.author), seed=config.seed)
  random.Random(f"order/{config.seed}").shuffle(rows)
  return {"examples": _write(folder / DEMONSTRATIONS, rows)}


def write_prompts(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Draws requests of which nothing is held out.

  Args:
    config: `world`; `seed`; `kinds`, number of requests of each kind.
    folder: gets prompts.jsonl.
  """
  rows = [request.to_row() for request in _requests(config)]
  random.Random(f"order/{config.seed}").shuffle(rows)
  return {"prompts": _write(folder / PROMPTS, rows)}


def write_rankings(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets the second rater rank the answers to each prompt.

  The number of answers that it sees is drawn between two limits, as the labelers of InstructGPT saw 4 to 9.

  Args:
    config: `candidates`, the folder of a collection; `seed`; `least` and `most`, answers to a prompt.
    folder: gets rankings.jsonl.
  """
  if not 2 <= config.least <= config.most:
    raise InputError(f"least: {config.least} to most: {config.most}, expected at least 2 answers, least ≤ most")
  rng, rows = random.Random(f"rankings/{config.seed}"), []
  for request, answers in _candidates(config.candidates):
    shown = answers[: rng.randint(config.least, config.most)]
    rows.append(raters.rank(request, shown, rng))
  kept = [row for row in rows if row is not None]
  return {"prompts": len(rows), "rankings": _write(folder / RANKINGS, kept)}


def write_comparisons(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets the first rater compare two answers to each prompt, and edit the better one.

  Args:
    config: `world`; `candidates`, the folder of a collection; `seed`; `edits`, share of the pairs that are edited.
    folder: gets comparisons.jsonl.
  """
  rng, editor = random.Random(f"comparisons/{config.seed}"), AnswerWriter(_world(config), config.seed)
  rows, prompts = [], 0
  for request, answers in _candidates(config.candidates):
    prompts += 1
    different = list(dict.fromkeys(answers))
    if len(different) > 1:
      pair = tuple(rng.sample(different, 2))
      rows.append(raters.compare(request, pair, rng, editor=editor if rng.random() < config.edits else None))
  kept = [row for row in rows if row is not None]
  edited = sum("edited" in row for row in kept)
  return {"prompts": prompts, "comparisons": _write(folder / COMPARISONS, kept), "edited": edited}


def write_documents(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Writes new text of the corpus, for training on it besides something else.

  Args:
    config: `world`; `seed`; `documents`, their number.
    folder: gets documents.jsonl with a column "text".
  """
  rows = [{"text": row["completion"]} for row in corpus(_world(config), config.documents, seed=config.seed)]
  return {"documents": _write(folder / DOCUMENTS, rows)}


def forecast_requests(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the requests that are drawn, and answered if they are demonstrations."""
  del known
  count = sum(config.kinds.values())
  return Effort(examples=count, rows={DEMONSTRATIONS: count, PROMPTS: count})


def forecast_ratings(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the prompts whose answers are rated: all of the collection."""
  count = known.count(str(pathlib.Path(config.candidates).parent / PAIRS))
  return Effort(examples=count, rows={RANKINGS: count, COMPARISONS: count})


def forecast_documents(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the documents."""
  del known
  return Effort(rows={DOCUMENTS: config.documents})


def _world(config: ConfigDict) -> World:
  return make_world(convert(WorldSettings, config.world, "world"))


def _requests(config: ConfigDict) -> list[WorldRequest]:
  world, found = _world(config), []
  for name, count in sorted(config.kinds.items()):
    if name not in list(RequestKind):
      raise InputError(f"kinds.{name}: unknown, expected some of {', '.join(RequestKind)}")
    found += draw_requests(world, RequestKind(name), RequestPart.TRAIN, count, seed=config.seed)
  return found


def _candidates(path: str) -> Iterator[tuple[WorldRequest, list[str]]]:
  """Yields each request of a collection with the answers to it that have a verdict."""
  files = sorted(pathlib.Path(path).glob("*.jsonl"))
  if not files:
    raise InputError(f"candidates: {path} has no files, expected the folder candidates/ of a collection")
  for line in (line for file in files for line in file.read_text("utf-8").splitlines()):
    row = json.loads(line)
    yield WorldRequest.from_row({**row["row"], "prompt": row["prompt"]}), row["answers"]


def _write(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> int:
  rows = list(rows)
  if not rows:
    raise InputError(f"{path.name}: no row is left, expected some")
  atomic_files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
  return len(rows)
