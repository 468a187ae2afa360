"""Lets a critic revise answers in rounds, each under a principle drawn from a constitution.

Source: Constitutional AI (2212.08073, section 3.1): a principle drawn at each of four rounds, temperature 1, and all
revisions are kept. Principles are drawn without replacement while there are others, among those about harm. The world's
requests of a red team are harmful only, and a critic of the world reads no other principles.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import critiques, words
from posttrain_jax.data.constitution import Constitution, Principle, read_constitution
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.models import flops
from posttrain_jax.pipelines.collect import DEMONSTRATIONS
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.assistant_data import read_candidates
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

REVISIONS = "revisions.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CritiqueSettings:
  """Holds the config of rounds of critiques.

  Attributes:
    seed: of principles and draws.
    model: the critic.
    constitution: FILE.md.
    candidates: the folder candidates/ of a collection; its answers are revised.
    rounds: critiques of each answer, one after another.
    slots: texts drawn at the same time.
    max_prompt_length: limit on what the critic reads, in tokens.
    max_new_tokens: limit on a critique with its revision, in tokens.
  """

  seed: int
  model: AskedModel
  constitution: str
  candidates: str
  rounds: int = at_least(1)
  slots: int = at_least(1)
  max_prompt_length: int = at_least(1)
  max_new_tokens: int = at_least(1)


def rounds() -> ConfigDict:
  """Returns the config; the model, the constitution and the candidates are inputs."""
  return ConfigDict(
    dict(
      seed=0,
      model=dict(path=""),
      constitution="",
      candidates="",
      rounds=4,
      slots=64,
      max_prompt_length=160,
      max_new_tokens=56,
    )
  )


def revise(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, float]:
  """Revises answers in rounds.

  Args:
    config: a record `CritiqueSettings`.
    folder: gets revisions.jsonl: a row for each answer and round, with the request, "completion" (the revision),
      "round", "principle" (its number), "critique" and "before".

  Returns:
    Counts, and the share of revisions of each round that differ from what they revise.

  Raises:
    InputError: if constitution, model or candidates cannot be read.
  """
  given = parse(CritiqueSettings, config)
  known = about_harm(read_constitution(given.constitution))
  critic = TextModel(
    given.model.path,
    seed=given.seed,
    slots=given.slots,
    max_prompt_length=given.max_prompt_length,
    max_new_tokens=given.max_new_tokens,
  )
  asked = [(request, text) for request, texts in read_candidates(given.candidates) for text in texts]
  rng, rows, tokens, changed = random.Random(f"principles/{given.seed}"), [], 0, {}
  drawn = [draw_principles(rng, known, given.rounds) for _ in asked]
  texts = [text for _, text in asked]
  for number in range(given.rounds):
    prompts = [
      critiques.critic_prompt(request.text, text, principles[number].says)
      for (request, _), text, principles in zip(asked, texts, drawn)
    ]
    said, count = critic.draw(prompts, attempt=number)
    tokens += count
    for i, ((request, _), text) in enumerate(zip(asked, said)):
      critique, revision = critiques.read_critique(text, texts[i])
      about = {"round": number + 1, "principle": drawn[i][number].number, "critique": critique, "before": texts[i]}
      rows.append({**request.to_row(), "completion": revision, **about})
      texts[i] = revision
    last = rows[-len(asked) :]
    changed[f"changed_{number + 1}"] = sum(row["completion"] != row["before"] for row in last) / len(last)
  atomic_files.write_rows(folder / REVISIONS, rows)
  return {"examples": len(rows), "tokens_generated": tokens, **changed}


def about_harm(constitution: Constitution) -> list[Principle]:
  """Returns the principles about categories of harm.

  Raises:
    InputError: if there is none.
  """
  harms = {harm.name for harm in words.HARMS}
  found = [each for each in constitution.principles if harms & {*each.about}]
  if not found:
    raise InputError("constitution: no principle is about a category of harm, expected some")
  return found


def draw_principles(rng: random.Random, principles: list[Principle], count: int) -> list[Principle]:
  """Draws principles, each once before one comes again."""
  found: list[Principle] = []
  while len(found) < count:
    found += rng.sample(principles, min(len(principles), count - len(found)))
  return found


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the critiques of one answer to each prompt."""
  model, _ = known.policy(config.model)
  count = known.count(str(pathlib.Path(config.candidates).parent / DEMONSTRATIONS)) * config.rounds
  drawn = count * known.length(config.max_new_tokens)
  work = flops.forward(model, tokens=drawn, pairs=0, logits=drawn)
  return Effort(examples=count, generated=drawn, sampling_flops=work, rows={REVISIONS: count})
