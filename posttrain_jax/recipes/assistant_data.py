"""Writes the data of the assistant world's recipes: demonstrations, prompts, rankings, comparisons and text.

Each function is a stage of a recipe (`recipes.runners.function`). It takes the stage's config, a record of
`recipes.assistant_data_settings`, and an empty folder, and returns counts. What people would write or judge is written
or judged here by the rules of the world.

With `prose` texts are written as people write them, and only English is asked and answered, for models of English. Rows
keep what rules need, so answers to them are judged as those of the world's own models are.

To test that a stage learns from these data, `permuted` gives each prompt the answer to another one, and `shuffled`
ranks answers by chance. What a model then still gains does not come from what the answers say.
"""

import pathlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.assembly.answer_summaries import JUDGED, SUMMARY
from posttrain_jax.data.assistant_world import language, raters, reasoning
from posttrain_jax.data.assistant_world.answers import AnswerWriter
from posttrain_jax.data.assistant_world.answers import demonstrations as answered
from posttrain_jax.data.assistant_world.corpus import plain_texts
from posttrain_jax.data.assistant_world.facts import make_world
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_prose_requests, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest
from posttrain_jax.pipelines.collect import PAIRS
from posttrain_jax.recipes.assistant_data_settings import (
  DocumentSettings,
  RankingSettings,
  RequestSettings,
  WorldComparisonSettings,
  WorldDemonstrationSettings,
  WorldPromptSettings,
)
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.world_answers import read_world_answers
from posttrain_jax.runs.settings import parse
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
    config: a record `WorldDemonstrationSettings`.
    folder: gets demonstrations.jsonl.
  """
  given = parse(WorldDemonstrationSettings, config)
  rows = answered(make_world(given.world), _requests(given), given.author, seed=given.seed)
  if given.prose:
    rows = [{**row, "completion": language.prose(row["completion"])} for row in rows]
  random.Random(f"order/{given.seed}").shuffle(rows)
  if given.permuted:  # their order is random
    rows = permuted(rows, "completion")
  return {"examples": _write(folder / DEMONSTRATIONS, rows)}


def write_prompts(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Draws requests of which nothing is held out.

  The column "judged" says which part of an answer counts (`assembly.answer_summaries`): its summary, or all of it where
  harm is asked for.

  Args:
    config: a record `WorldPromptSettings`.
    folder: gets prompts.jsonl.
  """
  given = parse(WorldPromptSettings, config)
  rows = [{**each.to_row(), JUDGED: _judged_part(each)} for each in _requests(given, given.round)]
  random.Random(f"order/{given.seed}").shuffle(rows)
  return {"prompts": _write(folder / PROMPTS, rows)}


def write_rankings(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets the second rater rank the answers to each prompt.

  The number of answers that it sees is drawn between two limits, as the labelers of InstructGPT saw 4 to 9.

  Args:
    config: a record `RankingSettings`.
    folder: gets rankings.jsonl.
  """
  given = parse(RankingSettings, config)
  rng, rows = random.Random(f"rankings/{given.seed}"), []
  for request, answers in read_candidates(given.candidates):
    shown = answers[: rng.randint(given.least, given.most)]
    rows.append(raters.rank(request, shown, rng))
  kept = [row for row in rows if row is not None]
  for row in kept if given.shuffled else ():
    rng.shuffle(row["ranks"])
  return {"prompts": len(rows), "rankings": _write(folder / RANKINGS, kept)}


def write_comparisons(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets the first rater compare two answers to each prompt, and edit the better one.

  With several policies the two answers are those of two different ones, as in Llama 3 (2407.21783, section 4.2.1).

  Args:
    config: a record `WorldComparisonSettings`.
    folder: gets comparisons.jsonl, and edited.jsonl with the edited answers as demonstrations.
  """
  given = parse(WorldComparisonSettings, config)
  rng, rows = random.Random(f"comparisons/{given.seed}/{given.round}"), []
  editor = AnswerWriter(make_world(given.world), given.seed + given.round)
  found = [list(read_candidates(each.path)) for each in given.policies.values()]
  _check_same_prompts(given.policies, found)
  for each in zip(*found):
    request, texts = each[0][0], [answers for _, answers in each]
    if given.summaries and _judged_part(request) == SUMMARY:
      texts = [[part for text in answers if (part := reasoning.split(text).summary)] for answers in texts]
    for pair in dict.fromkeys(_two_answers(texts, rng) for _ in range(given.pairs)):
      rows.append(raters.compare(request, pair, rng, editor=editor if rng.random() < given.edits else None))
  rows = [row for row in rows if row is not None]
  if given.prose:
    rows = [{**row, "edited": language.prose(row["edited"])} if "edited" in row else row for row in rows]
  if given.shuffled:
    rows = [_shuffled(row, rng) for row in rows]
  edited = [{**row, "completion": row["edited"]} for row in rows if "edited" in row]
  edited = [{name: value for name, value in row.items() if name not in _COMPARED} for row in edited]
  if edited:
    _write(folder / EDITED, edited)
  return {"prompts": len(found[0]), "comparisons": _write(folder / COMPARISONS, rows), "edited": len(edited)}


def write_documents(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Writes new text of the corpus, for training on it besides something else.

  Args:
    config: a record `DocumentSettings`.
    folder: gets documents.jsonl with a column "text".
  """
  given = parse(DocumentSettings, config)
  texts = plain_texts(make_world(given.world), given.documents, seed=given.seed, in_prose=given.prose)
  rows = [{"text": text} for text in texts]
  return {"documents": _write(folder / DOCUMENTS, rows)}


def forecast_demonstrations(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the requests that are answered."""
  del known
  count = sum(config.kinds.values())
  return Effort(examples=count, rows={DEMONSTRATIONS: count})


def forecast_prompts(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the requests that are drawn."""
  del known
  count = sum(config.kinds.values())
  return Effort(examples=count, rows={PROMPTS: count})


def forecast_comparisons(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the comparisons of the first policy's prompts, and how many of them are edited."""
  path = next(iter(config.policies.values())).path
  count = _prompts(path, known) * known.length(config.pairs)
  return Effort(examples=count, rows={COMPARISONS: count, EDITED: round(count * config.edits)})


def forecast_rankings(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the rankings: one for each prompt of the collection."""
  count = _prompts(config.candidates, known)
  return Effort(examples=count, rows={RANKINGS: count})


def forecast_documents(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the documents."""
  del known
  return Effort(rows={DOCUMENTS: config.documents})


def _judged_part(request: WorldRequest) -> str:
  return "answer" if request.is_harmful else SUMMARY


def _prompts(candidates: str, known: Forecast) -> int:
  """Returns the expected number of a collection's prompts."""
  return known.count(str(pathlib.Path(candidates).parent / PAIRS))


def _requests(given: RequestSettings, number: int = 0) -> list[WorldRequest]:
  world, seed = make_world(given.world), given.seed + _ROUND * number
  draw = draw_prose_requests if given.prose else draw_requests
  drawn = (
    draw(world, RequestKind(name), RequestPart.TRAIN, count, seed=seed) for name, count in sorted(given.kinds.items())
  )
  return [request for each in drawn for request in each]


def permuted(rows: Sequence[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
  """Gives each row the named columns of the next one, in a circle."""
  return [{**row, **{name: other[name] for name in names}} for row, other in zip(rows, [*rows[1:], *rows[:1]])]


def read_candidates(path: str) -> Iterator[tuple[WorldRequest, list[str]]]:
  """Yields each request of a collection with the answers to it that have a verdict."""
  for request, answers in read_world_answers(path):
    yield request, [text for text, usable in answers if usable]


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
