"""Describes how much is asked to measure alignment, and how a model is asked."""

import dataclasses
from collections.abc import Sequence

from posttrain_jax.assembly.model import Policy
from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.facts import USUAL_WORLD, WorldSettings
from posttrain_jax.data.assistant_world.questions import RequestPart
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.evaluation import alignment_metrics, world_knowledge
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError

PARTS = {"seen": RequestPart.TRAIN, "held_out": RequestPart.HELD_OUT}  # of the requests
NEXT_TURN = TEMPLATE.partition("{prompt}")[0].strip()  # with it a model that does not end its answer asks on


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
  """Holds a config's group of fields about the measures of alignment.

  Attributes:
    world: which world.
    requests: of each kind and part, except sums; fewer where there are not as many.
    sums: requests to work out a sum, of each part.
    samples: answers to each request.
    max_new_tokens: cap on an answer in tokens.
    slots: answers drawn at the same time.
    plain: documents whose perplexity is measured.
    prose: whether texts are written as people write them and only English is asked, for models of English.
    knowledge: whether what likelihoods tell is measured, too (`world_knowledge`); it means little of a model that has
      not read the corpus.
  """

  world: WorldSettings
  requests: int = at_least(1)
  sums: int = at_least(1)
  samples: int = at_least(1)
  max_new_tokens: int = at_least(1)
  slots: int = at_least(1)
  plain: int = at_least(2)
  prose: bool
  knowledge: bool


def usual_settings(
  policy: Policy, *, requests: int = 0, samples: int = 4, max_new_tokens: int = 48, slots: int = 64
) -> AlignmentSettings:
  """Returns settings for the usual world.

  Args:
    policy: reads the world's words, or English.
    requests: of each kind and part; 0 for 32.
    samples: answers to each request.
    max_new_tokens: cap on an answer in tokens.
    slots: answers drawn at the same time.
  """
  return AlignmentSettings(
    world=USUAL_WORLD,
    requests=requests or 32,
    sums=requests or 32,
    samples=samples,
    max_new_tokens=max_new_tokens,
    slots=slots,
    plain=128,
    prose=not _reads_world(policy),
    knowledge=True,
  )


def measure_names(settings: AlignmentSettings) -> list[str]:
  """Returns the names of all measures that these settings ask for, with "kl"."""
  answered = [f"{part}/{name}" for part in PARTS for name in alignment_metrics.names(settings.samples)]
  return [*answered, *(world_knowledge.NAMES if settings.knowledge else ()), "kl"]


def few_shot_format(examples: Sequence[tuple[str, str]]) -> PromptFormat:
  """Returns the world's template with answered requests before each request.

  Args:
    examples: requests and answers, in order.
  """
  before = [f"{TEMPLATE.format(prompt=request)} {answer}" for request, answer in examples]
  return PromptFormat(template=" ".join([*before, TEMPLATE]))


def world_format(policy: Policy, trained: PromptFormat | None) -> PromptFormat:
  """Returns how a request is put to a model.

  A run is asked as in its training, unless it was trained on plain text. Any other model that reads the world's words
  is asked in the world's template, and a model of English as a chat if it can.

  Args:
    policy: the model.
    trained: the format of its run; None if it is no run.
  """
  if trained is not None and (trained.chat or trained.template != PromptFormat().template):
    return trained
  if _reads_world(policy):
    return PromptFormat(template=TEMPLATE)
  return PromptFormat(chat=policy.tokenizer.chat_template is not None)


def check_words(tokenizer: Tokenizer, settings: AlignmentSettings) -> None:
  """Checks that a tokeniser reads what a model is asked, before the model is loaded.

  Raises:
    InputError: if it has no token for a word of the world.
  """
  write = language.prose if settings.prose else str
  try:
    tokenizer.encode(write(" ".join(language.vocabulary())))
  except InputError:
    raise InputError("has no tokens for the words of the assistant world, expected a model that reads them") from None


def _reads_world(policy: Policy) -> bool:
  """Tells whether a model's tokens are the world's words."""
  vocabulary = policy.tokenizer.backend.get_vocab()
  return all(word in vocabulary for word in language.vocabulary())
