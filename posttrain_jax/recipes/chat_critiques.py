"""Lets a chat model answer prompts, and critique and revise its own answers in rounds.

Source: Constitutional AI (2212.08073, section 3.1). A model that knows English is asked for a critique and a revision
in turns of a chat, each under a principle drawn from a constitution. `recipes.critique_rounds` is for the assistant
world.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data import sources
from posttrain_jax.data.chat_template import Message
from posttrain_jax.data.constitution import read_constitution
from posttrain_jax.data.prompts import PromptFormat, Row, own_prompt
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.critique_rounds import REVISIONS, draw_principles
from posttrain_jax.recipes.effort import Effort, drawing
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

CRITIQUE = "Critique your last answer by this principle: {} Say in one sentence what is wrong with it."
REVISE = "Now write your last answer anew, so that it keeps the principle: {} Write the new answer alone."


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatCritiqueSettings:
  """Holds the config of rounds of critiques in a chat.

  Attributes:
    seed: of prompts, principles and draws.
    model: it answers, critiques and revises.
    constitution: FILE.md, whose principles are all used.
    path: FILE.jsonl or FILE.jsonl.gz of prompts.
    limit: prompts that are drawn among those that are not too long.
    rounds: critiques of each answer, one after another.
    slots: texts drawn at the same time.
    max_asked: limit on a prompt, in tokens.
    max_prompt_length: limit on all that the model reads, in tokens.
    max_new_tokens: limit on an answer, a critique and a revision, in tokens.
  """

  seed: int
  model: AskedModel
  constitution: str
  path: str
  limit: int = at_least(1)
  rounds: int = at_least(1)
  slots: int = at_least(1)
  max_asked: int = at_least(1)
  max_prompt_length: int = at_least(1)
  max_new_tokens: int = at_least(1)


def rounds() -> ConfigDict:
  """Returns the config; the model, the constitution and the prompts are inputs."""
  return ConfigDict(
    dict(
      seed=0,
      model=dict(path=""),
      constitution="",
      path="",
      limit=6,
      rounds=2,
      slots=8,
      max_asked=96,
      max_prompt_length=384,
      max_new_tokens=64,
    )
  )


def revise(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, float]:
  """Answers prompts and revises the answers in rounds.

  Args:
    config: a record `ChatCritiqueSettings`.
    folder: gets revisions.jsonl: a row for each prompt and round, with "prompt" (messages), "completion" (the revision,
      never empty), "round", "principle" (its number), "critique" and "before".

  Returns:
    Counts.

  Raises:
    InputError: if constitution, model or prompts cannot be read, or if no prompt is short enough.
  """
  given = parse(ChatCritiqueSettings, config)
  principles = read_constitution(given.constitution).principles
  sizes = dict(max_prompt_length=given.max_prompt_length, max_new_tokens=given.max_new_tokens)
  model = TextModel(given.model.path, seed=given.seed, slots=given.slots, **sizes)
  asked = _asked(given, model)
  rng, rows = random.Random(f"principles/{given.seed}"), []
  drawn = [draw_principles(rng, list(principles), given.rounds) for _ in asked]
  texts, tokens = model.draw_chats(asked)
  for number in range(given.rounds):
    says = [each[number].says for each in drawn]
    chats = [said(chat, text, CRITIQUE.format(each)) for chat, text, each in zip(asked, texts, says)]
    critiques, count = model.draw_chats(chats, attempt=2 * number + 1)
    chats = [said(chat, text, REVISE.format(each)) for chat, text, each in zip(chats, critiques, says)]
    revisions, more = model.draw_chats(chats, attempt=2 * number + 2)
    tokens += count + more
    for chat, before, critique, after, each in zip(asked, texts, critiques, revisions, drawn):
      if after.strip():
        about = {"round": number + 1, "principle": each[number].number, "critique": critique, "before": before}
        rows.append({"prompt": chat, "completion": after.strip(), **about})
    texts = [after.strip() or before for before, after in zip(texts, revisions)]
  atomic_files.write_rows(folder / REVISIONS, rows)
  return {"examples": len(rows), "prompts": len(asked), "tokens_generated": tokens}


def said(chat: Sequence[Message], answer: str, asked: str) -> list[Message]:
  """Returns a chat with an answer and the next thing that is asked for."""
  return [*chat, {"role": "assistant", "content": answer.strip() or "..."}, {"role": "user", "content": asked}]


check = check_of(ChatCritiqueSettings, {"path": "FILE.jsonl or FILE.jsonl.gz of prompts"})


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates an answer to each prompt, and its critiques and revisions."""
  model, _ = known.policy(config.model)
  drawn = config.limit * (1 + 2 * config.rounds) * known.length(config.max_new_tokens)
  count = config.limit * config.rounds
  return drawing(model, examples=count, tokens=drawn, rows={REVISIONS: count})


def _asked(given: ChatCritiqueSettings, model: TextModel) -> list[list[Message]]:
  """Draws prompts that are not too long, as chats."""
  rows, _ = sources.read_rows(given.path)
  order = random.Random(f"prompts/{given.seed}").sample(rows, len(rows))
  found: list[list[Message]] = []
  for row in order:
    chat = _chat(row)
    if len(found) < given.limit and len(model.encode_chat(chat)) <= given.max_asked:
      found.append(chat)
  if not found:
    raise InputError(f"{given.path}: found no prompt of at most {given.max_asked} tokens, expected some")
  return found


def _chat(row: Row) -> list[Message]:
  prompt = own_prompt(row.columns)
  if not prompt or not isinstance(prompt, str | list):
    raise InputError(f"{row.source}: prompt is {prompt!r:.40}, expected text or messages")
  return list(PromptFormat(chat=True).ask(prompt))
