"""Tests spoilt text."""

import collections

from posttrain_jax.data.assistant_world.raw_text import SLURS, Found, raw_documents
from tests.data.assistant_world.small_world import WORLD

EXAM = ("what is 1 + 2 ? answer : 3",)
ROWS = raw_documents(WORLD, 60, spoilt={kind.value: 0.1 for kind in Found if kind != Found.CLEAN}, exam=EXAM, seed=0)
BY_KIND = collections.defaultdict(list)
for each in ROWS:
  BY_KIND[each["found"]].append(each["text"])


def test_each_kind_is_spoilt_in_its_way():
  assert {kind: len(texts) for kind, texts in BY_KIND.items()} == {
    kind.value: 6 if kind != Found.CLEAN else 60 + 6 for kind in Found
  }
  clean = set(BY_KIND["clean"])
  assert all(text in clean for text in BY_KIND["copy"])
  assert not any(word.isalnum() for text in BY_KIND["signs"] for word in text.split())
  assert all(text.endswith(EXAM[0]) for text in BY_KIND["leaked"])
  assert all(len({*text.split(" . ")} - {""}) <= 2 for text in BY_KIND["repeated"])
  assert all(sum(word in SLURS for word in text.split()) == len(text.split()) / 2 for text in BY_KIND["toxic"])
  assert not any(word in SLURS for text in clean for word in text.split())


def test_a_near_copy_differs_from_a_clean_text_in_one_word_at_most():
  for text in BY_KIND["near_copy"]:
    near = [
      sum(a != b for a, b in zip(text.split(), other.split()))
      for other in BY_KIND["clean"]
      if len(other.split()) == len(text.split())
    ]
    assert min(near) <= 1


def test_another_seed_gives_another_order():
  again = raw_documents(WORLD, 60, spoilt={}, exam=EXAM, seed=1)
  assert again == raw_documents(WORLD, 60, spoilt={}, exam=EXAM, seed=1) != ROWS
