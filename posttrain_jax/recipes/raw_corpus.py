"""Writes raw text of the assistant world, spoilt, and an exam that must not leak."""

import dataclasses
import pathlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.facts import World, WorldSettings, make_world
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.raw_text import Found, raw_documents
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

RAW, EXAM = "raw.jsonl", "exam.jsonl"
_LONG = 18  # words of a question with its answer that is long enough to be found in a text


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawCorpusSettings:
  """Describes raw text.

  Attributes:
    world: what it tells.
    seed: of the draws.
    documents: clean documents.
    spoilt: kind of spoilt document to their number for each clean one.
    exam: questions of the exam: held-out sums with their work.
  """

  world: WorldSettings
  seed: int
  documents: int = at_least(1)
  spoilt: Mapping[str, float]
  exam: int = at_least(1)

  def __post_init__(self):
    """Raises InputError if a kind is unknown."""
    for name in self.spoilt:
      if name not in list(Found) or name == Found.CLEAN:
        known = ", ".join(kind for kind in Found if kind != Found.CLEAN)
        raise InputError(f"spoilt.{name}: unknown, expected some of {known}")


check = check_of(RawCorpusSettings)


def write_raw_corpus(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Writes raw text and the exam.

  Args:
    config: a record `RawCorpusSettings`.
    folder: gets raw.jsonl with columns "text" and "found", what the document is, and exam.jsonl with "question".

  Returns:
    Numbers of documents, of each kind, and of questions.
  """
  given = parse(RawCorpusSettings, config)
  world = make_world(given.world)
  exam = _exam(world, given)
  rows = raw_documents(world, given.documents, spoilt=given.spoilt, exam=exam, seed=given.seed)
  atomic_files.write_rows(folder / RAW, rows)
  atomic_files.write_rows(folder / EXAM, ({"question": text} for text in exam))
  kinds = {kind: sum(row["found"] == kind for row in rows) for kind in (Found.CLEAN.value, *given.spoilt)}
  return {"documents": len(rows), **kinds, "exam": len(exam)}


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the documents."""
  del known
  count = round(config.documents * (1 + sum(config.spoilt.values())))
  return Effort(examples=count, rows={RAW: count, EXAM: config.exam})


def _exam(world: World, given: RawCorpusSettings) -> list[str]:
  """Returns held-out sums with their work, those that are long enough to be found."""
  writer, found = AnswerWriter(world, given.seed), []
  for request in draw_requests(world, RequestKind.SUM, RequestPart.HELD_OUT, 2 * given.exam, seed=given.seed):
    text = f"{request.text} {writer.answer(request, Author.CAREFUL)}"
    if len(text.split()) >= _LONG:
      found.append(text)
  return found[: given.exam]
