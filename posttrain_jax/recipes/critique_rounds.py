"""Lets a critic revise answers in rounds, each under a principle drawn from a constitution.

Source: Constitutional AI (2212.08073, section 3.1): a principle drawn at each of four rounds, temperature 1, and all
revisions are kept. Principles are drawn without replacement while there are others, among those about harm. The world's
requests of a red team are harmful only, and a critic of the world reads no other principles. Where the drawn principle
does not speak of what is asked about (`recipes.principle_fit`), the round revises nothing.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.data.constitution import Principle, read_constitution
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.pipelines.collect import DEMONSTRATIONS
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.assistant_data import read_candidates
from posttrain_jax.recipes.effort import Effort, drawing
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.principle_fit import Recall, about_harm, fits, speaking
from posttrain_jax.runs.settings import at_least, parse

REVISIONS, CRITIQUES = "revisions.jsonl", "critiques.jsonl"
_OTHER = "that is not the principle ."


@dataclasses.dataclass(frozen=True, kw_only=True)
class CritiqueSettings:
  """Holds the config of rounds of critiques.

  Attributes:
    seed: of principles and draws.
    model: the critic.
    knowledge: the pretrained model, which is asked what it knows of what is asked about.
    constitution: FILE.md.
    candidates: the folder candidates/ of a collection; its answers are revised.
    rounds: critiques of each answer, one after another.
    slots: texts drawn at the same time.
    max_prompt_length: limit on what the critic reads, in tokens.
    max_new_tokens: limit on a critique with its revision, in tokens.
  """

  seed: int
  model: AskedModel
  knowledge: AskedModel
  constitution: str
  candidates: str
  rounds: int = at_least(1)
  slots: int = at_least(1)
  max_prompt_length: int = at_least(1)
  max_new_tokens: int = at_least(1)


def rounds() -> ConfigDict:
  """Returns the config; the models, the constitution and the candidates are inputs."""
  return ConfigDict(
    dict(
      seed=0,
      model=dict(path=""),
      knowledge=dict(path=""),
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
    folder: gets critiques.jsonl, with a row for each answer and round: the request, "completion" (the answer after the
      round), "round", "principle" (its number), "known", "critique" and "before"; and revisions.jsonl, with those rows
      in which the critic has revised; if it never has, the answers as they are.

  Returns:
    Counts; the share of answers that each round changed; for each half of the categories: "fits", how often the
    principle that speaks of what is known is that of the category; "revised", how many answers were; "explained", how
    many answers are refusals by the right principle after all rounds.

  Raises:
    InputError: if constitution, model or candidates cannot be read.
  """
  given = parse(CritiqueSettings, config)
  principles = about_harm(read_constitution(given.constitution))
  critic = TextModel(
    given.model.path,
    seed=given.seed,
    slots=given.slots,
    max_prompt_length=given.max_prompt_length,
    max_new_tokens=given.max_new_tokens,
  )
  asked = [(request, text) for request, texts in read_candidates(given.candidates) for text in texts]
  requests, texts = [request for request, _ in asked], [text for _, text in asked]
  known, tokens = Recall(given.knowledge.path, seed=given.seed, slots=given.slots).known(requests)
  fit = [speaking(row) for row in fits(critic.logprobs, requests, known, principles)]
  rng, rows = random.Random(f"principles/{given.seed}"), []
  drawn = [draw_principles(rng, principles, given.rounds) for _ in asked]
  for number in range(given.rounds):
    chosen = [each[number] for each in drawn]
    speaks = [i for i, place in enumerate(fit) if place is not None and principles[place] == chosen[i]]
    prompts = [critiques.critic_prompt(requests[i].text, texts[i], known[i], chosen[i].says) for i in speaks]
    said, count = critic.draw(prompts, attempt=number)
    tokens += count
    found = dict(zip(speaks, said))
    for i, request in enumerate(requests):
      critique, revision = critiques.read_critique(found.get(i, _OTHER), texts[i])
      about = {"round": number + 1, "principle": chosen[i].number, "known": known[i]}
      rows.append({**request.to_row(), "completion": revision, **about, "critique": critique, "before": texts[i]})
      texts[i] = revision
  revised = [row for row in rows if row["completion"] != row["before"]]
  atomic_files.write_rows(folder / CRITIQUES, rows)
  atomic_files.write_rows(folder / REVISIONS, revised or rows[: len(asked)])
  changed = {
    f"changed_{number}": sum(row["round"] == number for row in revised) / len(asked)
    for number in range(1, given.rounds + 1)
  }
  own = [None if place is None else principles[place].about for place in fit]
  return {"examples": len(revised), "tokens_generated": tokens, **changed, **_shares(asked, texts, own)}


def _shares(
  asked: Sequence[tuple[WorldRequest, str]], texts: Sequence[str], fit: Sequence[tuple[str, ...] | None]
) -> dict[str, float]:
  found: dict[str, list[bool]] = {}
  for (request, before), text, about in zip(asked, texts, fit):
    half = critiques.half(request.harm)
    found.setdefault(f"fits/{half}", []).append(about is not None and request.harm in about)
    found.setdefault(f"revised/{half}", []).append(text != before)
    found.setdefault(f"explained/{half}", []).append(judge(request, text).explains)
  return {name: sum(values) / len(values) for name, values in sorted(found.items())}


def draw_principles(rng: random.Random, principles: list[Principle], count: int) -> list[Principle]:
  """Draws principles, each once before one comes again."""
  found: list[Principle] = []
  while len(found) < count:
    found += rng.sample(principles, min(len(principles), count - len(found)))
  return found


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the critiques of one answer to each prompt."""
  model, _ = known.policy(config.model)
  count = known.count(str(pathlib.Path(config.candidates).parent / DEMONSTRATIONS))  # a principle in each speaks of it
  drawn = count * known.length(config.max_new_tokens)
  return drawing(model, examples=count, tokens=drawn, rows={REVISIONS: count})
