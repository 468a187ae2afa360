import json
import random

import pytest

from posttrain_jax.data.prepare.contamination import ContaminationRule
from posttrain_jax.data.prepare.words import hash_words, split
from posttrain_jax.types import InputError


def write(path, *rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
  return str(path)


def rule(*paths, **changes):
  return ContaminationRule(**dict(paths=paths, fields=("question", "answer"), words=13, shortest=8) | changes)


def ask(of, *texts):
  return of(texts, hash_words(texts))


def test_a_passage_of_thirteen_words_is_found_whatever_its_case_and_signs(tmp_path):
  question = " ".join(f"word{i}" for i in range(20))
  path = write(tmp_path / "set.jsonl", {"question": "short", "id": 1}, {"question": question, "answer": "42"})
  found = rule(path)
  assert found.load() == {"texts": 3, "passages": 8, "too_short": 2}
  thirteen, twelve = (" ".join(question.split()[3 : 3 + n]) for n in (13, 12))
  assert ask(found, f"x {thirteen.upper().replace(' ', ', ')}! y", f"x {twelve} y", "short 42") == [
    f"a passage of {path}:2",
    "",
    "",
  ]


def test_a_text_with_fewer_words_is_looked_for_as_a_whole(tmp_path):
  nine = "one two three four five six seven eight nine"
  path = write(tmp_path / "set.jsonl", {"question": nine})
  assert [bool(reason) for reason in ask(rule(path), f"and {nine} ten", nine[4:], nine)] == [True, False, True]


def test_texts_in_lists_and_objects_count(tmp_path):
  nine = "one two three four five six seven eight nine"
  path = write(tmp_path / "set.jsonl", {"answer": [{"text": nine, "n": 1}, None]})
  assert ask(rule(path), nine) == [f"a passage of {path}:1"]


def test_documents_found_are_those_that_share_a_run_of_words(tmp_path):
  """Compares with sets of all runs, on texts of few words where runs are often shared."""
  draw = random.Random(0)
  texts = [" ".join(draw.choices("abc", k=draw.randint(0, 40))) for _ in range(300)]
  questions, documents = texts[:40], texts[40:]
  path = write(tmp_path / "set.jsonl", *({"question": text} for text in questions))
  n, shortest = 7, 4

  def runs(words, length):
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}

  passages = [runs(words, min(n, len(words))) for words in map(split, questions) if len(words) >= shortest]
  expected = [any(passage & runs(split(text), len(next(iter(passage)))) for passage in passages) for text in documents]
  found = [bool(reason) for reason in ask(rule(path, words=n, shortest=shortest), *documents)]
  assert found == expected
  assert 20 < sum(expected) < 240


def test_rows_and_settings_that_are_refused(tmp_path):
  path = write(tmp_path / "set.jsonl", {"question": "a"}, {"body": "b"})
  with pytest.raises(InputError, match=r"set\.jsonl:2 has none of question, answer; found body"):
    rule(path).load()
  with pytest.raises(InputError, match="no such file"):
    rule(str(tmp_path / "none.jsonl")).load()
  for changes, message in (
    (dict(words=0, shortest=0), r"contamination\.words: 0"),
    (dict(shortest=14), r"contamination\.shortest: 14"),
    (dict(fields=()), r"contamination\.fields: none"),
  ):
    with pytest.raises(InputError, match=message):
      rule(path, **changes)
