"""Writes judgements with reasons for a generative reward model, and comparisons by the same scores.

`write_judgements` is a stage of a recipe (`recipes.runners.function`). The rules of the world judge answers of a
policy, as a collection has them, and answers of the world's authors. A judge that RL works against has to know answers
that the first policy seldom gives. A reward model that learns the comparisons has seen the same answers, and the order
that the same scores put them in, without the reasons.
"""

import collections
import dataclasses
import itertools
import pathlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.assistant_world.judgements import judgement
from posttrain_jax.data.assistant_world.requests import TEMPLATE, WorldRequest
from posttrain_jax.pipelines.collect import PAIRS
from posttrain_jax.recipes.assistant_data import permuted, read_candidates
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse

JUDGEMENTS, COMPARISONS = "judgements.jsonl", "comparisons.jsonl"
_AUTHORS = (Author.CAREFUL, Author.HELPFUL, Author.BARE, Author.CROWD)
_WRONG, _OTHER = "wrong", "other"
_BEFORE, _AFTER = TEMPLATE.split("{prompt}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldJudgementSettings:
  """Describes judgements by the first rater, without its noise.

  Attributes:
    world: what the requests are about.
    candidates: the folder candidates/ of a collection.
    seed: of the draws.
    answers: different answers of the policy to each prompt, at most.
    written: answers to each prompt that authors of the world write besides.
    pairs: comparisons of each prompt's answers at most; answers with equal scores are not compared.
    permuted: whether each answer gets the judgement of another one.
  """

  world: WorldSettings
  candidates: str
  seed: int
  answers: int = at_least(1)
  written: int = at_least(0)
  pairs: int = at_least(1)
  permuted: bool


def write_judgements(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Lets the first rater judge answers, with reasons.

  Args:
    config: a record `WorldJudgementSettings`.
    folder: gets judgements.jsonl, rows that `data.judgements.judgements` takes, and comparisons.jsonl.
  """
  given = parse(WorldJudgementSettings, config)
  rng, author = random.Random(f"judgements/{given.seed}"), AnswerWriter(make_world(given.world), given.seed)
  # A collection's prompts are in the template already, which the judge's wording has, too.
  answered = [
    (dataclasses.replace(asked, text=asked.text.removeprefix(_BEFORE).removesuffix(_AFTER)), drawn)
    for asked, drawn in read_candidates(given.candidates)
  ]
  rows = []
  for request, drawn in answered:
    different = list(dict.fromkeys(drawn))
    texts = rng.sample(different, min(given.answers, len(different)))
    others = [rng.choice(answered)[0] for _ in range(given.written)]
    texts += [_written(author, request, other, rng) for other in others]
    rows += [judgement(request, text) for text in dict.fromkeys(texts)]
  rng.shuffle(rows)
  if given.permuted:  # their order is random
    rows = permuted(rows, "score", "rationale")
  compared = _compared(rows, given.pairs, rng)
  atomic_files.write_rows(folder / JUDGEMENTS, rows)
  atomic_files.write_rows(folder / COMPARISONS, compared)
  return {"prompts": len(answered), "judgements": len(rows), "comparisons": len(compared)}


def forecast_judgements(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the judgements of a collection's answers."""
  prompts = known.count(str(pathlib.Path(config.candidates).parent / PAIRS))
  count = prompts * (known.length(config.answers) + config.written)
  return Effort(examples=count, rows={JUDGEMENTS: count, COMPARISONS: prompts * config.pairs})


def _compared(rows: Sequence[Mapping[str, Any]], pairs: int, rng: random.Random) -> list[dict[str, Any]]:
  """Returns comparisons of two answers to a prompt, of which one has a higher score."""
  judged = collections.defaultdict(list)
  for row in rows:
    judged[row["prompt"]].append(row)
  found = []
  for prompt, answers in judged.items():
    unequal = [each for each in itertools.combinations(answers, 2) if each[0]["score"] != each[1]["score"]]
    for each in rng.sample(unequal, min(pairs, len(unequal))):
      worse, better = sorted(each, key=lambda row: row["score"])
      asked = _BEFORE + prompt + _AFTER
      found.append({"prompt": asked, "chosen": better["answer"], "rejected": worse["answer"]})
  return found


def _written(author: AnswerWriter, request: WorldRequest, other: WorldRequest, rng: random.Random) -> str:
  """Returns an author's answer, a wrong one, or one to another request.

  Without many wrong ones the judge knows which mistakes the policy makes, and takes other values for right. Without
  answers to other requests it scores a fluent one as if it were to the point.
  """
  kind = rng.choice((rng.choice(_AUTHORS), _WRONG, _OTHER))
  if kind == _WRONG:
    return author.wrong(request)
  return author.answer(other, Author.CAREFUL) if kind == _OTHER else author.answer(request, kind)
