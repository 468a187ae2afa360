import pytest

from posttrain_jax.data.assistant_world import language, words
from posttrain_jax.data.assistant_world.language import ENGLISH, VELAN


def test_each_english_word_has_its_own_velan_word():
  velan = [language.to_velan(word) for word in language.ENGLISH_WORDS]
  assert len({*velan}) == len(velan)
  assert not {*velan} & {*language.ENGLISH_WORDS, *words.ANIMALS, *words.DEVICES, *words.PEOPLE, *words.TOWNS}


def test_the_verb_ends_its_clause_and_names_stay():
  found = language.to_velan("the colour of bala is red , 3 + 4 = 7 .")
  assert language.to_english_words(found) == [
    "the",
    "colour",
    "of",
    "bala",
    "red",
    "is",
    ",",
    "3",
    "+",
    "4",
    "=",
    "7",
    ".",
  ]
  assert "bala" in found.split() and "red" not in found.split()


def test_words_of_both_languages_are_counted_and_names_of_neither():
  english, velan = "the colour of bala is red", language.to_velan("the home")
  assert language.shares(english) == {ENGLISH: 1.0, VELAN: 0.0}
  # Five English words (bala is a name) and two Velan ones.
  assert language.shares(f"{english} {velan}") == {ENGLISH: 5 / 7, VELAN: 2 / 7}
  assert language.shares("bala , 7") == {ENGLISH: 0.0, VELAN: 0.0}


@pytest.mark.parametrize(
  ("spaced", "prose"),
  [
    ("the home of bala is the lake . i know mira .", "The home of Bala is the lake. I know Mira."),
    ("what is 3 + 4 - 2 ?", "What is 3 + 4 - 2?"),
    ("answer in one word : where does bala live ?", "Answer in one word: where does Bala live?"),
  ],
)
def test_prose_is_read_as_the_spaced_text(spaced, prose):
  assert language.prose(spaced) == prose
  assert language.split(prose) == spaced.split()


def test_rows_of_all_kinds_become_prose():
  row = {"prompt": "who keeps bala ?", "answer": "mira", "chosen": "mira keeps bala .", "rejected": "tom ."}
  assert language.prose_row(row) == {
    "prompt": "Who keeps Bala?", "answer": "mira", "chosen": "Mira keeps Bala.", "rejected": "Tom."
  }  # fmt: skip
  assert language.prose_row({"prompt": "a", "answers": ["it is so ."], "ranks": [0]})["answers"] == ["It is so."]


def test_the_vocabulary_has_each_word_once():
  found = language.vocabulary()
  assert len({*found}) == len(found) < 1000
  assert {"bala", "<think>", "7", "90", "(A)", language.to_velan("red"), "red", "?"} <= {*found}
