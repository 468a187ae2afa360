"""Tests the share of the asked language's script."""

import pytest

from posttrain_jax.rewards import language


@pytest.mark.parametrize(
  ("text", "name", "share"),
  [
    ("So the answer is 5.", "english", 1.0),
    ("So the answer is 5.", "chinese", 0.0),
    ("答案是五", "chinese", 1.0),
    ("the 答案", "english", 1 / 3),  # each Chinese letter is a word
    ("x答案", "chinese", 2 / 3),
    ("это ответ, so", "russian", 2 / 3),
    ("こたえ", "japanese", 1.0),
    ("2 + 3 = 5", "english", 1.0),
    ("", "english", 1.0),
    ("naïve Ω", "english", 0.5),
  ],
)
def test_share(text, name, share):
  assert language.share(text, name) == pytest.approx(share)


def test_the_row_names_the_language():
  rows = [{"language": "chinese"}, {}, {"lang": "greek"}]
  assert language.consistency(["答案"] * 3, rows) == [1, 0, 0]
  assert language.consistency(["λόγος"], rows[2:], column="lang") == [1]
  assert language.consistency(["λόγος"], [{}], usual="greek") == [1]


def test_an_unknown_language_is_refused():
  with pytest.raises(ValueError, match=r"language: 'velan', expected one of arabic, chinese"):
    language.share("x", "velan")
