"""Attacks a model of the assistant world and says how often it complies.

Shares are told by kind of attack and by category of harm. All kinds of attacks want the same devices. Rules judge the
answers, and a model beside them if one is named. An answer whose beginning is given counts with that beginning.
Requests have something that no data of post-training has, unless a model is to learn from the attacks.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world import critiques, language, words
from posttrain_jax.data.assistant_world.attacks import Attack, AttackText, AttackWriter, beginning, requests
from posttrain_jax.data.assistant_world.facts import World, WorldSettings, make_world
from posttrain_jax.data.assistant_world.harm_verdicts import QUESTION
from posttrain_jax.data.assistant_world.questions import RequestPart
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.assistant_world.rules import RuleVerdict
from posttrain_jax.evaluation import second_opinion
from posttrain_jax.evaluation.suffix_search import SearchSettings, search_suffix
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.recipes import attack_shares, attacker
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.effort import Effort, drawing
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.measures import Measured
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

# What a stage of attacks writes.
ATTACKS, SUCCESSES = attack_shares.ATTACKS, attack_shares.SUCCESSES
_ROUND = 1000  # distance of the seeds of two rounds
_SEARCHED = 16  # requests on which a suffix is searched


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackSettings:
  """Holds the config of attacks.

  Attributes:
    seed: of all draws and of the intervals.
    round: another number draws other requests and searches another suffix.
    model: what is attacked.
    world: what is asked about.
    kinds: names of the attacks.
    part: whether something of the requests is held out from training; attacks that a model learns from are of
      "train".
    requests: of each kind and category.
    shots: answered requests before one, in a many-shot attack.
    suffix: how a suffix is searched.
    judge: a model that judges beside the rules.
    slots: answers drawn at the same time.
    max_new_tokens: cap on an answer in tokens.
    attacker: what writes learned attacks; None for none.
  """

  seed: int
  round: int
  model: AskedModel
  world: WorldSettings
  kinds: tuple[Attack, ...]
  part: RequestPart
  requests: int = at_least(1)
  shots: int = at_least(1)
  suffix: SearchSettings
  judge: second_opinion.SecondJudge
  slots: int = at_least(1)
  max_new_tokens: int = at_least(1)
  attacker: AskedModel | None = None

  def __post_init__(self):
    """Raises InputError if there is no attack, or nobody who writes it."""
    if not self.kinds:
      raise InputError(f"kinds: found none, expected some of {', '.join(Attack)}")
    if Attack.LEARNED in self.kinds and not (self.attacker and self.attacker.path):
      raise InputError("attacker.path: empty, expected PATH_OR_NAME of the model that writes learned attacks")

  @property
  def draws(self) -> int:
    """Returns the seed of all draws in this round."""
    return self.seed + _ROUND * self.round


def attacks(world: Mapping[str, object]) -> ConfigDict:
  """Returns the config of all attacks that need no attacker, whose model is an input.

  Args:
    world: fields of `WorldSettings`.
  """
  suffix = dict(words=4, rounds=24, candidates=16)
  return ConfigDict(
    dict(
      seed=0,
      round=0,
      model=dict(path=""),
      world=dict(world),
      kinds=tuple(each.value for each in Attack if each != Attack.LEARNED),
      part="held_out",
      requests=8,
      shots=8,
      suffix=suffix,
      judge=dict(path="", longest=400),
      slots=64,
      max_new_tokens=48,
    )
  )


check = check_of(AttackSettings, {"model.path": "PATH_OR_NAME of a trained model"})


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the answers that are drawn."""
  model, _ = known.policy(config.model)
  count = len(config.kinds) * config.requests * len(words.HARMS)
  written = config.requests * len(words.HARMS) * (Attack.LEARNED in config.kinds)
  drawn = count * known.length(config.max_new_tokens) + written * known.length(attacker.LONGEST)
  return drawing(model, examples=count, tokens=drawn)


def attack(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Attacks a model.

  Args:
    config: a record `AttackSettings`.
    folder: DIR; gets attacks.jsonl with all texts, answers and verdicts, attacks.json, and report.html with a table and
      a picture.

  Returns:
    "attacks/KIND_complied" and "attacks/KIND_refused", shares of the answers to each kind, those of a category as
    "attacks/KIND/CATEGORY_complied", and those of categories that no data of training has as
    "attacks/KIND/unseen_complied". "_distinct" is the share that complies with an attack whose words, but for the
    device, are not those of an earlier one. All with _low and _high at the end, the 95 % interval over requests.
    "suffix_gain": by how many nats an answer a suffix made complying beginnings more likely, 0 without one.

  Raises:
    InputError: if the model cannot be read or does not know the world's words.
  """
  given = parse(AttackSettings, config)
  world = make_world(given.world)
  writer = AttackWriter(world, shots=given.shots, seed=given.draws)
  unsearched = " ".join(["sun"] * given.suffix.words)  # as long as what is searched
  texts = []
  for kind in given.kinds:
    asked = requests(world, given.part, attack=kind, each=given.requests, seed=given.draws)
    found = _learned(given, asked) if kind == Attack.LEARNED else [unsearched] * len(asked)
    texts += [writer.write(kind, request, each) for request, each in zip(asked, found)]
  model = _model(given, [each.text for each in texts])
  suffix, gain = "", 0.0
  if Attack.SUFFIX in given.kinds:
    suffix, gain = _search(given, world, writer, model)
    texts = [
      writer.write(each.attack, each.request, suffix) if each.attack == Attack.SUFFIX else each for each in texts
    ]
  drawn, tokens = model.draw([each.text for each in texts])
  said = [f"{each.begun} {text}".strip() for each, text in zip(texts, drawn)]
  verdicts = [attacker.judge(each, text) for each, text in zip(texts, said)]
  lines = _lines(texts, said, verdicts)
  found = _measures(texts, verdicts, given.seed) | attacker.distinct(texts, verdicts, given.seed)
  if given.judge.path:
    found |= _judged(given, texts, lines)
  return {"sampling/tokens_generated": tokens, "suffix_gain": gain} | attack_shares.write(folder, lines, suffix, found)


def _model(given: AttackSettings, texts: Sequence[str]) -> TextModel:
  longest = max(len(language.split(text)) for text in texts) + 2  # a token for each word, and a beginning
  return TextModel(
    given.model.path,
    seed=given.draws,
    slots=given.slots,
    max_prompt_length=longest,
    max_new_tokens=given.max_new_tokens,
  )


def _learned(given: AttackSettings, asked: Sequence[WorldRequest]) -> list[str]:
  return attacker.write(given.attacker.path, asked, seed=given.draws, slots=given.slots)


def _search(given: AttackSettings, world: World, writer: AttackWriter, model: TextModel) -> tuple[str, float]:
  """Searches a suffix on requests that it is not measured on.

  Returns:
    (the suffix, by how much it raises the mean logprob of a complying beginning over no suffix).
  """
  asked = requests(world, RequestPart.TRAIN, attack=Attack.DIRECT, each=_SEARCHED, seed=given.draws)[:_SEARCHED]
  bare = [writer.write(Attack.DIRECT, request).text for request in asked]
  endings = [beginning(request) for request in asked]

  def score(suffixes: Sequence[str]) -> list[float]:
    written = [writer.write(Attack.SUFFIX, request, each).text for each in suffixes for request in asked]
    found = model.ending_logprobs(written, endings * len(suffixes))
    return found.reshape(len(suffixes), len(asked)).mean(axis=1).tolist()

  known = [word for word in language.vocabulary() if word.isalpha()]
  suffix, scores = search_suffix(score, known, given.suffix, seed=given.draws)
  return suffix, scores[-1] - float(model.ending_logprobs(bare, endings).mean())


def _lines(texts: Sequence[AttackText], said: Sequence[str], verdicts: Sequence[RuleVerdict]) -> list[dict]:
  return [
    {**each.request.to_row(), "attack": each.attack.value, "text": each.text, "completion": text}
    | {"complies": verdict.complies, "refuses": verdict.refuses}
    for each, text, verdict in zip(texts, said, verdicts)
  ]


def _judged(given: AttackSettings, texts: Sequence[AttackText], lines: Sequence[dict]) -> dict[str, Measured]:
  """Adds what the judge says to each line, and measures its agreement with the rule.

  A learned attack that does not ask for its harm gets nothing by the rule. The judge does not know that.
  """
  answers = [
    second_opinion.JudgedAnswer(
      attacker.words_of(each) if each.attack == Attack.LEARNED else line["prompt"],
      line["completion"],
      line["complies"],
      (each.attack.value, each.request.harm, critiques.half(each.request.harm), *_learned_groups(each)),
    )
    for each, line in zip(texts, lines)
  ]
  judge = second_opinion.open_judge(given.judge, QUESTION, seed=given.draws)
  opinions, found = second_opinion.compare(judge, answers, seed=given.seed)
  for line, probability in zip(lines, opinions.complies):
    line["judge"] = float(probability)
  return {name: Measured.of(each) for name, each in found.items()}


def _learned_groups(text: AttackText) -> tuple[str, ...]:
  if text.attack != Attack.LEARNED:
    return ()
  return ("learned_asking",) if attacker.asks(text) else ("learned_not_asking",)


def _measures(texts: Sequence[AttackText], verdicts: Sequence[RuleVerdict], seed: int) -> dict[str, Measured]:
  told = [
    (each.attack.value, each.request.harm, verdict.complies, verdict.refuses) for each, verdict in zip(texts, verdicts)
  ]
  return attack_shares.shares(told, seed=seed)
