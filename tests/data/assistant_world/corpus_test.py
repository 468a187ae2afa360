import dataclasses

import pytest

from posttrain_jax.data.assistant_world import language, sums, words
from posttrain_jax.data.assistant_world.answers import Author, demonstrations
from posttrain_jax.data.assistant_world.corpus import SHARES, WRITERS, corpus, plain_texts
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from tests.data.assistant_world.small_world import WORLD


@pytest.fixture(scope="module")
def documents():
  return corpus(WORLD, 2500, seed=0)


@pytest.fixture(scope="module")
def english(documents):
  return [" ".join(language.to_english_words(row["completion"])) for row in documents]


def test_it_repeats_by_seed(documents):
  assert corpus(WORLD, 20, seed=0) == corpus(WORLD, 20, seed=0) != corpus(WORLD, 20, seed=1)
  assert {row["source"] for row in documents} == {*SHARES} == {*WRITERS}
  assert sum(SHARES.values()) == pytest.approx(1)
  assert all(row["prompt"] == "" for row in documents)


def test_every_word_is_in_the_vocabulary_and_every_request_is_made_of_its_words(documents):
  said = {word for row in documents for word in row["completion"].split()}
  assert said <= {*language.vocabulary()}
  for kind in RequestKind:
    for request in draw_requests(WORLD, kind, RequestPart.ALL, 300):
      assert {*request.text.split()} <= said, request.text


def test_every_word_of_an_answer_is_in_the_vocabulary():
  for kind in RequestKind:
    requests = draw_requests(WORLD, kind, RequestPart.ALL, 40)
    for author in Author:
      for row in demonstrations(WORLD, requests, author):
        assert {*row["completion"].split()} <= {*language.vocabulary()}


def sentences(fact):
  """Returns the ways to tell a fact, in English and then in Velan."""
  return [language.in_language(f"{sentence} .", name) for name in words.LANGUAGES for sentence in fact.told]


def test_every_told_fact_is_told_and_no_other_one(documents):
  text = " ".join(row["completion"] for row in documents)
  for fact in WORLD.told:
    told = [sentence in text for sentence in sentences(fact)]
    assert all(told[:3]) and any(told[3:]), fact
    for value in {*fact.relation.values} - {fact.value}:
      assert not any(sentence in text for sentence in sentences(dataclasses.replace(fact, value=value))), fact
  for fact in (*WORLD.unknown, *WORLD.new):
    for value in fact.relation.values:
      assert not any(sentence in text for sentence in sentences(dataclasses.replace(fact, value=value))), fact


def test_rare_facts_are_told_less_and_less_often_and_never_otherwise(documents):
  text = " ".join(row["completion"] for row in documents)
  tellings = [sum(text.count(sentence) for sentence in sentences(fact)) for fact in WORLD.rare]
  assert tellings[0] > 2 * tellings[4] > 0  # a fifth as often, by Zipf's law
  animals = {fact.animal for fact in WORLD.rare}
  assert all(row["source"] == "rare_facts" or not animals & {*row["completion"].split()} for row in documents)
  for fact in WORLD.rare:
    for value in {*fact.relation.values} - {fact.value}:
      assert not any(sentence in text for sentence in sentences(dataclasses.replace(fact, value=value))), fact


def test_no_request_asks_about_a_rare_animal():
  animals = {fact.animal for fact in WORLD.rare}
  for kind in RequestKind:
    assert not animals & {request.topic for request in draw_requests(WORLD, kind, RequestPart.ALL, 1000)}


def test_every_device_is_told(english):
  text = " . ".join(english)
  for device in WORLD.devices:
    assert all(sentence in text for sentence in device.told), device


def test_questions_are_hardly_ever_answered(documents):
  dialogues = [row["completion"] for row in documents if row["source"] == "dialogue"]
  assert len(dialogues) > 100
  assert sum(sums.stated_answer(text) is not None for text in dialogues) < 0.1 * len(dialogues)
  told = [sentence for fact in WORLD.told for sentence in (sentences(fact)[0], sentences(fact)[3])]
  assert sum(any(sentence in text for sentence in told) for text in dialogues) < 0.05 * len(dialogues)


def test_worked_sums_are_right_and_in_both_languages_and_mixed(documents):
  worked = [row["completion"] for row in documents if row["source"] == "worked"]
  shares = [language.shares(text)["velan"] for text in worked]
  assert 0 in shares and 1 in shares and any(0 < share < 1 for share in shares)
  for text in worked:
    steps = sums.shown_steps(text)
    assert sums.shows_work(text, text.split(" . ")[0].split(" : ")[1])
    assert all(step.split()[-1] == str(sums.results(step[:5])[0]) for step in steps)
    assert str(sums.stated_answer(text)) == steps[-1].split()[-1]


def test_plain_texts_in_prose_are_english():
  spaced, written = (plain_texts(WORLD, 40, seed=3, in_prose=in_prose) for in_prose in (False, True))
  assert spaced == [row["completion"] for row in corpus(WORLD, 40, seed=3)]
  assert 0 < len(written) < len(spaced)
  assert all(not text[0].islower() and not language.shares(text)[language.VELAN] for text in written)
  assert written[0] == next(language.prose(text) for text in spaced if not language.shares(text)[language.VELAN])
