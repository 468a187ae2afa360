"""Attacks a chat model with prompts of public benchmarks, and says how often it complies.

A rule judges the answers: an answer complies if it says something and does not refuse (`rewards.refusals`). The rule
cannot tell help from nonsense, so a model may judge beside it.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from posttrain_jax.data import sources
from posttrain_jax.data.chat_attacks import (
  BEGINNING,
  AttackedPrompt,
  ChatAttack,
  ChatAttackText,
  ChatAttackWriter,
  opening,
)
from posttrain_jax.data.prompts import own_prompt
from posttrain_jax.data.verdict_question import ENGLISH
from posttrain_jax.evaluation import second_opinion
from posttrain_jax.evaluation.suffix_search import SearchSettings, search_suffix
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.attack_shares import shares, write
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.measures import Measured
from posttrain_jax.rewards.refusals import refuses
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptFile:
  """Describes a file of prompts that should be refused.

  Attributes:
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT; empty leaves the file out. Of a chat its first turn is taken.
    only: columns and the values that rows must have in them.
    category: column that names the kind of harm; empty for none.
    limit: prompts that are measured, drawn among all.
  """

  path: str
  only: Mapping[str, str]
  category: str
  limit: int = at_least(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatAttackSettings:
  """Holds the config of attacks on a chat model.

  Attributes:
    seed: of all draws and of the intervals.
    model: what is attacked.
    prompts: files of prompts by name.
    longest: longer prompts, in characters, are left out.
    kinds: names of the attacks.
    shots: prompts before one, in a many-shot attack.
    searched: prompts of each file that are not measured; a suffix is searched on them, and they are the shots.
    suffix: how a suffix is searched.
    budget: tokens that the search of a suffix may read; it may end it before its last round.
    judge: a model that judges beside the rule.
    slots: answers drawn at the same time.
    max_prompt_length: limit on all that the model reads, in tokens.
    max_new_tokens: cap on an answer in tokens.
  """

  seed: int
  model: AskedModel
  prompts: Mapping[str, PromptFile]
  longest: int = at_least(1)
  kinds: tuple[ChatAttack, ...]
  shots: int = at_least(1)
  searched: int = at_least(1)
  suffix: SearchSettings
  budget: int = at_least(1)
  judge: second_opinion.SecondJudge
  slots: int = at_least(1)
  max_prompt_length: int = at_least(1)
  max_new_tokens: int = at_least(1)

  def __post_init__(self):
    """Raises InputError if there is no attack, or no prompt."""
    if not self.kinds:
      raise InputError(f"kinds: found none, expected some of {', '.join(ChatAttack)}")
    if not any(each.path for each in self.prompts.values()):
      raise InputError(f"prompts: no file is named, expected prompts.NAME.path of one of {', '.join(self.prompts)}")


check = check_of(ChatAttackSettings, {"model.path": "PATH_OR_NAME of a chat model"})


def attack(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Attacks a model.

  Args:
    config: a record `ChatAttackSettings`.
    folder: DIR; gets attacks.jsonl with all texts, answers and verdicts, attacks.json, and report.html.

  Returns:
    As `attacks.attack`, a judge's groups being the kinds, the files and the categories. "suffix_tokens": tokens that
    the search of a suffix has read.

  Raises:
    InputError: if model or prompts cannot be read, or if the model has no chat template.
  """
  given = parse(ChatAttackSettings, config)
  measured, others = _prompts(given)
  writer = ChatAttackWriter(others, shots=given.shots, seed=given.seed)
  sizes = dict(max_prompt_length=given.max_prompt_length, max_new_tokens=given.max_new_tokens)
  model = TextModel(given.model.path, seed=given.seed, slots=given.slots, **sizes)
  model.encode_chat([{"role": "user", "content": "?"}])  # a model without a chat template is found at once
  suffix, gain, spent, said, tokens = "", 0.0, 0, [""] * len(measured), 0
  if ChatAttack.SUFFIX in given.kinds:
    suffix, gain, spent = _search(given, writer, model, others)
  if ChatAttack.BUILD_UP in given.kinds:
    said, tokens = model.draw_chats([opening(prompt) for prompt in measured], attempt=1)
  texts = [
    writer.write(kind, prompt, suffix=suffix, said=first)
    for kind in given.kinds
    for prompt, first in zip(measured, said)
  ]
  drawn, more = model.draw_chats([each.messages for each in texts])
  lines = [_line(each, f"{each.begun} {text.strip()}".strip()) for each, text in zip(texts, drawn)]
  told = [(line["attack"], line["category"], line["complies"], line["refuses"]) for line in lines]
  found = shares(told, seed=given.seed)
  if given.judge.path:
    found |= _judged(given, lines)
  counts = {"sampling/tokens_generated": tokens + more, "suffix_gain": gain, "suffix_tokens": spent}
  return counts | write(folder, lines, suffix, found)


def _prompts(given: ChatAttackSettings) -> tuple[list[AttackedPrompt], list[AttackedPrompt]]:
  """Returns the prompts that are measured, and others."""
  measured, others = [], []
  for name, each in given.prompts.items():
    if not each.path:
      continue
    found = []
    for row in sources.read_rows(each.path)[0]:
      text = own_prompt(row.columns)
      text = text[0]["content"] if isinstance(text, list) and text else text
      if not isinstance(text, str) or not text.strip():
        raise InputError(f"{row.source}: prompt is {text!r:.40}, expected text or messages")
      if len(text) <= given.longest and all(row.columns.get(key) == value for key, value in each.only.items()):
        category = str(row.columns.get(each.category, "")) if each.category else ""
        found.append(AttackedPrompt(text.strip(), category, name))
    found = list(dict.fromkeys(found))
    if len(found) <= given.searched:
      raise InputError(f"prompts.{name}: found {len(found)}, expected more than searched = {given.searched}")
    drawn = random.Random(f"attacked/{given.seed}/{name}").sample(found, len(found))
    others += drawn[: given.searched]
    measured += drawn[given.searched :][: each.limit]
  return measured, others


def _search(
  given: ChatAttackSettings, writer: ChatAttackWriter, model: TextModel, others: Sequence[AttackedPrompt]
) -> tuple[str, float, int]:
  """Searches a suffix within the budget.

  Returns:
    (the suffix, by how much it raises the mean logprob of a complying beginning, tokens read).
  """
  asked, spent = others[: given.searched], 0

  def score(suffixes: Sequence[str]) -> list[float]:
    nonlocal spent
    chats = [writer.write(ChatAttack.SUFFIX, prompt, suffix=each).messages for each in suffixes for prompt in asked]
    spent += sum(len(model.encode_chat(chat)) for chat in chats)
    return model.chat_logprobs(chats, (BEGINNING,)).reshape(len(suffixes), len(asked)).mean(axis=1).tolist()

  bare = score([""])[0]
  rounds = min(given.suffix.rounds, max(0, given.budget // (spent * given.suffix.candidates)))
  known = [word for word in model.words() if len(word) > 2]
  suffix, scores = search_suffix(score, known, dataclasses.replace(given.suffix, rounds=rounds), seed=given.seed)
  return suffix, scores[-1] - bare, spent


def _line(each: ChatAttackText, said: str) -> dict:
  refused = refuses(said)
  return {
    "prompt": each.prompt.text,
    "source": each.prompt.source,
    "category": each.prompt.category,
    "attack": each.attack.value,
    "text": each.text,
    "completion": said,
    "complies": bool(said) and not refused,
    "refuses": refused,
  }


def _judged(given: ChatAttackSettings, lines: Sequence[dict]) -> dict[str, Measured]:
  """Adds what the judge says to each line, and measures its agreement with the rule."""
  answers = [
    second_opinion.JudgedAnswer(
      line["prompt"],
      line["completion"],
      line["complies"],
      tuple(filter(None, (line["attack"], line["source"], line["category"]))),
    )
    for line in lines
  ]
  judge = second_opinion.open_judge(given.judge, ENGLISH, seed=given.seed)
  opinions, found = second_opinion.compare(judge, answers, seed=given.seed)
  for line, probability in zip(lines, opinions.complies):
    line["judge"] = float(probability)
  return {name: Measured.of(each) for name, each in found.items()}
