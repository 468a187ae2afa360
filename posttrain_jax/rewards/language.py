"""Measures whether an answer keeps to the script of the language that was asked for.

R1 (arXiv:2501.12948, section 2.3.2) rewards the share of words in the target language, since its reasoning mixed
English and Chinese. Here a language is known by its script, so two languages of one script are not told apart. Words
without a letter, such as numbers and formulas, belong to no language.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_SCRIPTS = {
  "arabic": ("ARABIC",),
  "chinese": ("CJK",),
  "english": ("LATIN",),
  "greek": ("GREEK",),
  "hebrew": ("HEBREW",),
  "hindi": ("DEVANAGARI",),
  "japanese": ("CJK", "HIRAGANA", "KATAKANA"),
  "korean": ("HANGUL",),
  "russian": ("CYRILLIC",),
}
_WIDE = ("CJK", "HIRAGANA", "KATAKANA")  # scripts without spaces: each letter counts as a word
_PART = re.compile(r"\w+")


def consistency(
  texts: Sequence[str], rows: Sequence[Mapping[str, Any]], *, column: str = "language", usual: str = "english"
) -> list[float]:
  """Gives the share of the asked language's script among the words of each answer.

  Args:
    texts: the answers.
    rows: their prompts' rows.
    column: of the asked language's name.
    usual: the language of rows without the column.

  Returns:
    A share for each answer; 1 for an answer without a word.

  Raises:
    ValueError: if a language is unknown.
  """
  return [share(text, str(row.get(column) or usual)) for text, row in zip(texts, rows, strict=True)]


def share(text: str, language: str) -> float:
  """Computes the share of a language's script among a text's words; 1 without a word.

  Raises:
    ValueError: if the language is unknown.
  """
  if language not in _SCRIPTS:
    raise ValueError(f"language: {language!r}, expected one of {', '.join(_SCRIPTS)}")
  found = [script for part in _PART.findall(text) for script in _scripts(part)]
  return sum(script in _SCRIPTS[language] for script in found) / len(found) if found else 1.0


def _scripts(part: str) -> list[str]:
  """Returns the script of each word of a part between spaces; the first letter decides."""
  letters = [unicodedata.name(letter, "").split(" ")[0] for letter in part if letter.isalpha()]
  wide = [script for script in letters if script in _WIDE]
  return wide + [script for script in letters if script not in _WIDE][:1]
