"""Translates the world's English to Velan, its second language, and reads both.

Velan has one word for each English word and its own order: the verb ends its clause. Names, numbers and signs are the
same in both languages.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any

from posttrain_jax.data.assistant_world import words

ENGLISH, VELAN = words.LANGUAGES
_TOKEN = re.compile(r"</?[a-z]+>|\([AB]\)|[a-z]+|\d+|[^\s\w]", re.IGNORECASE)
_VERB_TEXT = """
is has lives eats fears keeps belongs see find give hunts sets opens puts listens spreads prints catches writes makes
cooks lifts dries grinds measures hurts built take live eat fear went met ate slept saw
"""
_OTHER_TEXT = """
a about am and answer are assistant at ate back because build built busy came can check cold come count day do does
evening exercise first for good help how i ignore in is it know list make maybe me met morning name need night not of
one only out people percent play please rain read right rules safe saw say slept so soon sorry story sun sure take
tell thanks that the then there this three to today town true use user velan villain wait want was weather went what
where which who will wind with word work world write wrong yes you
"""
_CLAUSE_ENDS = frozenset(".?,:!")
_VERBS = frozenset(_VERB_TEXT.split())
# Every English word of the world that Velan translates. Names, numbers, signs and tags are not among them.
ENGLISH_WORDS = tuple(
  dict.fromkeys(
    itertools.chain(
      *(relation.values for relation in words.RELATIONS[:-1]),
      *((relation.name, *relation.asked.split()) for relation in words.RELATIONS),
      *(text.split() for relation in words.RELATIONS for text in relation.told),
      *((*harm.name.split(), *harm.effect.split(), *harm.principle.split()) for harm in words.HARMS),
      *(use.split() for use in words.USES),
      words.PARTS,
      words.COUNTED,
      _OTHER_TEXT.split(),
    )
  )
)
ENGLISH_WORDS = tuple(word for word in ENGLISH_WORDS if word.isalpha())


@functools.cache
def _velan_words() -> dict[str, str]:
  every = itertools.product("bdgklmnprstvz", "aeiou", "bdgklmnprstvz", ("ak", "en", "ush", "ith"))
  spelled = ("".join(letters) for letters in every)
  taken = {*ENGLISH_WORDS, *words.ANIMALS, *words.DEVICES}
  # A large step through the list gives neighbouring words different beginnings.
  found = [word for word in spelled if word not in taken]
  return {word: found[i * 1009 % len(found)] for i, word in enumerate(ENGLISH_WORDS)}


@functools.cache
def _english_words() -> dict[str, str]:
  return {velan: english for english, velan in _velan_words().items()}


def vocabulary() -> tuple[str, ...]:
  """Returns every word, number and sign of the world, each once."""
  names = (*words.PEOPLE, *words.TOWNS, *words.ANIMALS, *words.DEVICES)
  signs = (*".?,:!+-=", *map(str, range(10)), *map(str, words.CONFIDENCES))
  later = (*words.TAGS, *words.JUDGE_WORDS)
  return tuple(dict.fromkeys((*signs, *ENGLISH_WORDS, *_velan_words().values(), *names, *later)))


def split(text: str) -> list[str]:
  """Splits a text, spaced or written as prose, into lower-case words, numbers and signs."""
  return [token if token in words.JUDGE_WORDS else token.lower() for token in _TOKEN.findall(text)]


def to_velan(text: str) -> str:
  """Translates an English text word for word.

  The first verb of each clause moves to the clause's end.
  """
  result, clause = [], []
  for token in [*split(text), ""]:
    if token and token not in _CLAUSE_ENDS:
      clause.append(token)
      continue
    verb = next((i for i, word in enumerate(clause) if word in _VERBS), None)
    if verb is not None:
      clause.append(clause.pop(verb))
    result += [_velan_words().get(word, word) for word in clause] + [token] * bool(token)
    clause = []
  return " ".join(result)


def in_language(text: str, language: str) -> str:
  """Returns an English text in a language of `words.LANGUAGES`."""
  return to_velan(text) if language == VELAN else text


def to_english_words(text: str) -> list[str]:
  """Splits a text and translates its Velan words; the order of the words stays."""
  return [_english_words().get(word, word) for word in split(text)]


def shares(text: str) -> dict[str, float]:
  """Computes the share of each language among the words that belong to one.

  Returns:
    A share for each of `words.LANGUAGES`; both are 0 if no word belongs to a language.
  """
  found = split(text)
  velan = sum(word in _english_words() for word in found)
  english = sum(word in _velan_words() for word in found)
  count = max(velan + english, 1)
  return {ENGLISH: english / count, VELAN: velan / count}


def prose(text: str) -> str:
  """Writes a spaced English text as people write it, for models that know English.

  Sentences and names begin with a capital, and no space stands before a point.
  """
  names = {*words.ANIMALS, *words.PEOPLE, *words.TOWNS, "velan", "english"}
  found, start = [], True
  for word in text.split():
    capital = word in names or word == "i" or (start and word.isalpha())
    found.append(word.capitalize() if capital else word)
    start = word in (".", "?", "!")
  return re.sub(r" ([.?,:!])", r"\1", " ".join(found))


def prose_row(row: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a row whose prompt and answers are prose; what rules need stays as it is."""
  texts = {name: prose(row[name]) for name in ("prompt", "completion", "chosen", "rejected", "edited") if name in row}
  answers = {"answers": [prose(text) for text in row["answers"]]} if "answers" in row else {}
  return {**row, **texts, **answers}
