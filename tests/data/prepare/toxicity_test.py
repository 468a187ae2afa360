import pickle

import pytest

from posttrain_jax.data.prepare.toxicity import ToxicityRule
from posttrain_jax.data.prepare.words import hash_words
from posttrain_jax.types import InputError

TEXTS = ("a vile word here", "Vile! and  UTTER-rot so they say it all", "good words", "")


def ask(rule, *texts):
  return rule(texts, hash_words(texts))


def test_the_share_of_listed_words_decides(tmp_path):
  path = tmp_path / "words.txt"
  path.write_text("# what is listed\nutter rot\n\nsneering\n", "utf-8")
  rule = ToxicityRule(words=("vile",), path=str(path), share=0.3)
  assert rule.load() == 3
  # 1 of 4 words; 3 of 9 words
  assert ask(rule, *TEXTS) == ["", "33.3% listed words, such as 'vile'", "", ""]
  assert ask(ToxicityRule(words=("vile",), path="", share=0.2), *TEXTS) == [
    "25.0% listed words, such as 'vile'",
    "",
    "",
    "",
  ]


def test_a_worker_gets_the_list_and_not_only_its_path(tmp_path):
  path = tmp_path / "words.txt"
  path.write_text("vile", "utf-8")
  rule = ToxicityRule(words=(), path=str(path), share=0.0)
  rule.load()
  path.unlink()
  assert ask(pickle.loads(pickle.dumps(rule)), *TEXTS)[0].startswith("25.0%")


@pytest.mark.parametrize(("content", "message"), [("# only\n", "no words"), ("fine\n!?\n", "'!\\?' has no word")])
def test_lists_that_are_refused(tmp_path, content, message):
  path = tmp_path / "words.txt"
  path.write_text(content, "utf-8")
  with pytest.raises(InputError, match=message):
    ToxicityRule(words=(), path=str(path), share=0.0).load()


def test_settings_that_are_refused(tmp_path):
  with pytest.raises(InputError, match=r"toxicity\.words: '\?\?'"):
    ToxicityRule(words=("??",), path="", share=0.0)
  with pytest.raises(InputError, match=r"toxicity\.share: 5"):
    ToxicityRule(words=(), path="", share=5)
  with pytest.raises(InputError, match="no such file"):
    ToxicityRule(words=(), path=str(tmp_path / "none"), share=0.0).load()
