"""Stands in for a model that is measured: an engine that answers as a careful author does, and made-up likelihoods."""

import contextlib

import numpy as np
import pytest

from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.evaluation import alignment, world_knowledge
from posttrain_jax.types import Group
from tests.data.assistant_world.small_world import WORLD
from tests.pipelines.made_groups import answer

TOKENIZER = word_tokenizer(language.vocabulary())


class CarefulEngine:
  def __init__(self, model, sampling, sizes, **settings):
    self.writer = AnswerWriter(WORLD, 0)

  def load(self, params, version):
    pass

  def unload(self):
    pass

  def generate(self, prompts, samples):
    texts = [self.writer.answer(WorldRequest.from_row(prompt.row), Author.CAREFUL) for prompt in prompts]
    made = [answer([*TOKENIZER.encode(text), TOKENIZER.eos_id]) for text in texts]
    return [Group(prompt, (each,) * samples) for prompt, each in zip(prompts, made)]


def half_each(model, params, prompts, choices, mesh):
  """Gives each token the probability ½."""
  return np.log(0.5) * np.array([[len(answer) for answer in answers] for answers in choices])


@contextlib.contextmanager
def answered_carefully():
  """Lets measurements in a `with` block use the engine and the likelihoods above; nothing is compiled."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(alignment, "Engine", CarefulEngine)
    for module in (alignment, world_knowledge):
      patch.setattr(module, "choice_logprobs", half_each)
    yield
