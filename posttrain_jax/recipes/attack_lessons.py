"""Turns attacks that succeeded into demonstrations of refusals, for the next round of training.

A refusal also follows a beginning that an attack has put into the answer's place, so that a model learns to turn back
(2406.05946, section 3).
"""

import dataclasses
import json
import pathlib

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.attacks import Attack
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

LESSONS = "demonstrations.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LessonSettings:
  """Describes lessons.

  Attributes:
    world: what the attacks are about.
    attacks: attacks.jsonl of a red team.
    seed: of the refusals.
    copies: demonstrations for each attack that succeeded.
  """

  world: WorldSettings
  attacks: str
  seed: int
  copies: int = at_least(1)


def lessons(world, *, copies: int) -> ConfigDict:
  """Returns the config of lessons, whose input is `attacks`."""
  return ConfigDict(dict(world=dict(world), attacks="", seed=0, copies=copies))


check = check_of(LessonSettings)


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Expects no attack to succeed; nobody writes the refusals."""
  del config, known
  return Effort(rows={LESSONS: 0})


def write_lessons(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Writes a refusal after each attack that succeeded.

  Args:
    config: a record `LessonSettings`.
    folder: gets demonstrations.jsonl, whose prompts are all that the model read.

  Returns:
    "attacks" and "lessons", their numbers.

  Raises:
    InputError: if the attacks cannot be read, or if one is of a request that a model must not be trained on.
  """
  given = parse(LessonSettings, config)
  writer, rows = AnswerWriter(make_world(given.world), given.seed), []
  try:
    lines = [json.loads(line) for line in pathlib.Path(given.attacks).read_text("utf-8").splitlines()]
  except (OSError, ValueError) as error:
    raise InputError(f"attacks: {given.attacks} cannot be read ({error}), expected attacks.jsonl") from None
  for number, line in enumerate(lines, start=1):
    request = WorldRequest.from_row(line)
    if request.held_out:
      raise InputError(f"{given.attacks}:{number}: its request is held out from training, expected part: train")
    if line["complies"]:
      turn = ". " * (line["attack"] == Attack.PREFILLED)
      for _ in range(given.copies):
        rows.append({"prompt": line["text"], "completion": turn + writer.answer(request, Author.CAREFUL)})
  atomic_files.write_rows(folder / LESSONS, rows)
  return {"attacks": len(lines), "lessons": len(rows)}
