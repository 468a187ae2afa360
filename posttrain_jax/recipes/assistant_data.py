"""Writes the data of the assistant world's recipes: demonstrations, prompts, rankings, comparisons and text.

Each function is a stage of a recipe (`recipes.runners.function`). It takes the stage's config and an empty folder, and
returns counts. What people would write or judge is written or judged here by the rules of the world.

With `prose` texts are written as people write them, and only English is asked and answered, for models of English. Rows
keep what rules need, so answers to them are judged as those of the world's own models are.

To test that a stage learns from these data, `permuted` gives each prompt the answer to another one, and `shuffled`
ranks answers by chance. What a model then still gains does not come from what the answers say.
"""

import dataclasses
import json
import pathlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import language, raters
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
EDITED = "edited.jsonl"
_COMPARED = ("chosen", "rejected", "edited", "strength")  # columns of comparisons
_ROUND = 1000  # distance of the seeds of two rounds


def write_demonstrations(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets one author answer requests of which nothing is held out.

  Args:
    config: `world`; `seed`; `kinds`, number of requests of each kind; `author`, a value of `Author`; `permuted`,
      whether each request gets the answer to another one; `prose`.
    folder: gets demonstrations.jsonl.
  """
  if config.author not in list(Author):
    raise InputError(f"author: {config.author!r}, expected one of {', '.join(Author)}")
  rows = answered(_world(config), _requests(config), Author(config.author), seed=config.seed)
  rows = [{**row, "completion": language.prose(row["completion"])} for row in rows] if config.prose else rows
  random.Random(f"order/{config.seed}").shuffle(rows)
  if config.permuted:  # their order is random
    answers = [row["completion"] for row in rows]
    rows = [{**row, "completion": answer} for row, answer in zip(rows, [*answers[1:], *answers[:1]])]
  return {"examples": _write(folder / DEMONSTRATIONS, rows)}


def write_prompts(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Draws requests of which nothing is held out.

  Args:
    config: `world`; `seed`; `kinds`, number of requests of each kind; `round`, another number draws other requests;
      `prose`.
    folder: gets prompts.jsonl.
  """
  rows = [request.to_row() for request in _requests(config, config.round)]
  random.Random(f"order/{config.seed}").shuffle(rows)
  return {"prompts": _write(folder / PROMPTS, rows)}


def write_rankings(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets the second rater rank the answers to each prompt.

  The number of answers that it sees is drawn between two limits, as the labelers of InstructGPT saw 4 to 9.

  Args:
    config: `candidates`, the folder of a collection; `seed`; `least` and `most`, answers to a prompt; `shuffled`,
      whether the ranks are drawn by chance.
    folder: gets rankings.jsonl.
  """
  if not 2 <= config.least <= config.most:
    raise InputError(f"least: {config.least} to most: {config.most}, expected at least 2 answers, least ≤ most")
  rng, rows = random.Random(f"rankings/{config.seed}"), []
  for request, answers in _candidates(config.candidates):
    shown = answers[: rng.randint(config.least, config.most)]
    rows.append(raters.rank(request, shown, rng))
  kept = [row for row in rows if row is not None]
  for row in kept if config.shuffled else ():
    rng.shuffle(row["ranks"])
  return {"prompts": len(rows), "rankings": _write(folder / RANKINGS, kept)}


def write_comparisons(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets the first rater compare two answers to each prompt, and edit the better one.

  With several policies the two answers are those of two different ones, as in Llama 3 (2407.21783, section 4.2.1).

  Args:
    config: `world`; `policies`, by name, each with `path`, the folder of a collection from the same prompts; `seed` and
      `round`, of the noise; `pairs`, comparisons of each prompt, of which equal ones count once; `edits`, share of the
      comparisons that are edited; `shuffled`, whether chance decides which answer is edited, chosen and rejected;
      `prose`, of what people write.
    folder: gets comparisons.jsonl, and edited.jsonl with the edited answers as demonstrations.
  """
  world, stream = _world(config), f"comparisons/{config.seed}/{config.round}"
  rng, editor, rows = random.Random(stream), AnswerWriter(world, config.seed + config.round), []
  found = [list(_candidates(each.path)) for each in config.policies.values()]
  _check_same_prompts(config.policies, found)
  for each in zip(*found):
    request, texts = each[0][0], [answers for _, answers in each]
    for pair in dict.fromkeys(_two_answers(texts, rng) for _ in range(config.pairs)):
      rows.append(raters.compare(request, pair, rng, editor=editor if rng.random() < config.edits else None))
  rows = [row for row in rows if row is not None]
  if config.prose:
    rows = [{**row, "edited": language.prose(row["edited"])} if "edited" in row else row for row in rows]
  if config.shuffled:
    rows = [_shuffled(row, rng) for row in rows]
  edited = [{**row, "completion": row["edited"]} for row in rows if "edited" in row]
  edited = [{name: value for name, value in row.items() if name not in _COMPARED} for row in edited]
  if edited:
    _write(folder / EDITED, edited)
  return {"prompts": len(found[0]), "comparisons": _write(folder / COMPARISONS, rows), "edited": len(edited)}


def write_documents(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Writes new text of the corpus, for training on it besides something else.

  Args:
    config: `world`; `seed`; `documents`, their number; `prose`, which leaves out those with words of Velan.
    folder: gets documents.jsonl with a column "text".
  """
  texts = [row["completion"] for row in corpus(_world(config), config.documents, seed=config.seed)]
  if config.prose:
    texts = [language.prose(text) for text in texts if not language.shares(text)[language.VELAN]]
  rows = [{"text": text} for text in texts]
  return {"documents": _write(folder / DOCUMENTS, rows)}


def forecast_requests(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the requests that are drawn, and answered if they are demonstrations."""
  del known
  count = sum(config.kinds.values())
  return Effort(examples=count, rows={DEMONSTRATIONS: count, PROMPTS: count})


def forecast_comparisons(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the rows of comparisons, one for each prompt of the first policy, and how many of them are edited."""
  path = next(iter(config.policies.values())).path
  count = known.count(str(pathlib.Path(path).parent / PAIRS))
  return Effort(examples=count, rows={COMPARISONS: count, EDITED: max(1, round(config.edits * count))})


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


def _requests(config: ConfigDict, number: int = 0) -> list[WorldRequest]:
  world, found, seed = _world(config), [], config.seed + _ROUND * number
  asked = language.ENGLISH if config.prose else None
  for name, count in sorted(config.kinds.items()):
    if name not in list(RequestKind):
      raise InputError(f"kinds.{name}: unknown, expected some of {', '.join(RequestKind)}")
    found += draw_requests(world, RequestKind(name), RequestPart.TRAIN, count, seed=seed, language=asked)
  return [dataclasses.replace(each, text=language.prose(each.text)) for each in found] if config.prose else found


def _candidates(path: str) -> Iterator[tuple[WorldRequest, list[str]]]:
  """Yields each request of a collection with the answers to it that have a verdict."""
  files = sorted(pathlib.Path(path).glob("*.jsonl"))
  if not files:
    raise InputError(f"candidates: {path} has no files, expected the folder candidates/ of a collection")
  for line in (line for file in files for line in file.read_text("utf-8").splitlines()):
    row = json.loads(line)
    usable = [text for text, score in zip(row["answers"], row["scores"]) if score is not None]
    yield WorldRequest.from_row({**row["row"], "prompt": row["prompt"]}), usable


def _check_same_prompts(names: Iterable[str], found: Sequence[Sequence[tuple[WorldRequest, list[str]]]]) -> None:
  """Raises InputError if collections are of other prompts than the first one."""
  for name, each in zip(names, found):
    if [request for request, _ in each] != [request for request, _ in found[0]]:
      raise InputError(f"policies.{name}: answers other prompts than the first policy, expected the same in one order")


def _two_answers(answers: Sequence[Sequence[str]], rng: random.Random) -> tuple[str, str]:
  """Draws two answers, of two policies if there are several.

  They are equal if there are no others.
  """
  one, other = rng.sample(answers, 2) if len(answers) > 1 else (answers[0], answers[0])
  if not one or not other:
    return "", ""
  first = rng.choice(one)
  second = rng.choice([text for text in other if text != first] or [first])
  return min(first, second), max(first, second)


def _shuffled(row: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
  """Returns a row of comparisons whose answers have changed places by chance."""
  names = [name for name in _COMPARED[:3] if name in row]
  texts = [row[name] for name in names]
  return {**row, **dict(zip(names, rng.sample(texts, len(texts))))}


def _write(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> int:
  rows = list(rows)
  if not rows:
    raise InputError(f"{path.name}: no row is left, expected some")
  atomic_files.write_rows(path, rows)
  return len(rows)
