"""Writes raw text to measure a preparation with.

Words have Zipf's frequencies and the most frequent ones are English, so that most documents pass the rules. The others
have the faults of web text: copies, near copies, fragments, lists of signs, repetitions, and lines that are no JSON.
"""

import functools
import gzip
import json
import pathlib
from collections.abc import Iterator

import numpy as np

_FREQUENT = ("the", "of", "and", "to", "in", "that", "is", "with", "for", "have", "be", "it", "on", "as", "was", "by")
_KINDS = {"plain": 0.74, "copy": 0.06, "near_copy": 0.1, "short": 0.04, "signs": 0.02, "repeated": 0.03, "broken": 0.01}
_WORDS, _REMEMBERED = 50_000, 1000
_MEAN_WORDS = 600  # of a document


def write_raw_text(folder: pathlib.Path, size: int, *, seed: int = 0, files: int = 4) -> int:
  """Writes files of JSONL, every other one gzipped.

  Args:
    folder: gets them; it must be there.
    size: bytes of text, more or less.
    seed: of the draws.
    files: number of files.

  Returns:
    The number of documents.
  """
  count = 0
  for file in range(files):
    path = folder / f"web-{file:02}.jsonl{'.gz' if file % 2 else ''}"
    written = 0
    with gzip.open(path, "wb", 1) if file % 2 else open(path, "wb") as stream:
      for line in _lines(np.random.default_rng([seed, file])):
        stream.write(line + b"\n")
        written, count = written + len(line), count + 1
        if written >= size / files:
          break
  return count


def _lines(rng: np.random.Generator) -> Iterator[bytes]:
  words = _vocabulary()
  ranks = np.arange(1, len(words) + 1)
  ends = np.cumsum(1 / ranks)
  earlier: list[list[str]] = []
  kinds, shares = list(_KINDS), list(_KINDS.values())

  def draw(count: int) -> list[str]:
    return words[np.searchsorted(ends, rng.random(count) * ends[-1])].tolist()

  while True:
    kind = kinds[rng.choice(len(kinds), p=shares)]
    if kind in ("copy", "near_copy") and earlier:
      found = list(earlier[rng.integers(len(earlier))])
      for place in rng.integers(len(found), size=(len(found) // 100 + 1) * (kind == "near_copy")):
        found[place] = "altered"
    elif kind == "short":
      found = draw(int(rng.integers(1, 40)))
    elif kind == "signs":
      found = ["#", "...", "|", "--"] * int(rng.integers(20, 200))
    elif kind == "repeated":
      found = draw(20) * int(rng.integers(5, 40))
    else:
      found = draw(60 + int(rng.exponential(_MEAN_WORDS - 60)))
      if len(earlier) < _REMEMBERED:
        earlier.append(found)
      else:
        earlier[rng.integers(_REMEMBERED)] = found
    text = "\n".join(" ".join(found[i : i + 15]) + "." for i in range(0, len(found), 15))
    yield b'{"text": "no end' if kind == "broken" else json.dumps({"text": text}).encode()


@functools.cache
def _vocabulary() -> np.ndarray:
  rng, letters = np.random.default_rng(0), np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
  weights = 1 / np.arange(3, len(letters) + 3)
  drawn = rng.choice(letters, (2 * _WORDS, 9), p=weights / weights.sum())
  made = dict.fromkeys(_FREQUENT)
  made |= dict.fromkeys("".join(word[:size]) for word, size in zip(drawn, rng.integers(3, 10, len(drawn))))
  return np.array(list(made)[:_WORDS], dtype=object)
