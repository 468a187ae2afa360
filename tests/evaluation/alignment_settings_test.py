import dataclasses

import pytest

from posttrain_jax.assembly.model import Policy
from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.vocabularies import byte_tokenizer, word_tokenizer
from posttrain_jax.evaluation.alignment_settings import (
  NEXT_TURN,
  check_words,
  few_shot_format,
  usual_settings,
  world_format,
)
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.types import InputError

SIZES = dict(num_layers=1, embed_dim=8, mlp_dim=8, num_heads=2, num_kv_heads=1, head_dim=4)


def policy(tokenizer):
  return Policy(TransformerConfig(vocab_size=tokenizer.vocab_size, **SIZES), tokenizer)


WORLD, ENGLISH = policy(word_tokenizer(language.vocabulary())), policy(byte_tokenizer())


@pytest.mark.parametrize(
  ("model", "trained", "expected"),
  [
    (WORLD, None, PromptFormat(template=TEMPLATE)),
    (WORLD, PromptFormat(), PromptFormat(template=TEMPLATE)),  # trained on plain text
    (WORLD, PromptFormat(template="exercise : {prompt}"), PromptFormat(template="exercise : {prompt}")),
    (ENGLISH, None, PromptFormat(chat=True)),
    (ENGLISH, PromptFormat(chat=True, system="Hi"), PromptFormat(chat=True, system="Hi")),
  ],
)
def test_a_model_is_asked_as_it_was_trained(model, trained, expected):
  assert world_format(model, trained) == expected


def test_models_of_english_read_prose():
  assert usual_settings(ENGLISH).prose and not usual_settings(WORLD).prose
  assert usual_settings(WORLD).requests == 32 and usual_settings(WORLD, requests=2, samples=1).requests == 2


def test_a_tokeniser_must_read_what_is_asked():
  settings = usual_settings(WORLD)
  for model in (WORLD, ENGLISH):
    check_words(model.tokenizer, settings)
    check_words(ENGLISH.tokenizer, dataclasses.replace(settings, prose=True))
  for vocabulary, prose in ((language.vocabulary()[:-1], False), (language.vocabulary(), True)):
    with pytest.raises(InputError, match="has no tokens for the words of the assistant world"):
      check_words(word_tokenizer(vocabulary), dataclasses.replace(settings, prose=prose))


def test_examples_stand_before_a_request():
  given = few_shot_format([("what is 1 + 1 ?", "so answer : 2"), ("who keeps {loma} ?", "mira")])
  text = "user : what is 1 + 1 ? assistant : so answer : 2 user : who keeps {loma} ? assistant : mira"
  assert given.ask("tell me 3 + 4 .") == f"{text} user : tell me 3 + 4 . assistant :"
  assert NEXT_TURN == "user :"
