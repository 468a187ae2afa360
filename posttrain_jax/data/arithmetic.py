"""Chain arithmetic: "7+8-2*3=" is worked out from left to right, keeping the last digit: 5, 3, 9.

The number of steps is the difficulty. One step is one of 300 facts (digit, operator, digit), which a tiny model learns
by heart; a chain of them can only be answered by working through it. So a problem held out from training is new, though
each of its steps is not. No term ("+8") stands twice in a problem: a model finds its place in it by the term it is at,
and two layers cannot tell two equal ones apart. There are 10 · 30! / (30 - d)! problems of difficulty d.

Held-out problems are told from training problems by a hash of their text: whatever is drawn, in whatever order and with
whatever seed, a problem is always on the same side.
"""

import enum
import hashlib
import itertools
import math
import operator
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from posttrain_jax.types import InputError

DIFFICULTIES = (1, 2, 3, 4, 5, 6)

_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_TERMS = tuple(f"{sign}{digit}" for sign in _OPERATORS for digit in range(10))
_PROBLEM = re.compile(r"([0-9])((?:[-+*][0-9])+)=")


class Split(enum.StrEnum):
  """Which part of the data a problem belongs to."""

  TRAIN = "train"  # SFT and RL
  SFT_ONLY = "sft_only"  # shown in SFT, never drawn in RL
  HELD_OUT = "held_out"  # neither


def split_of(prompt: str, *, held_out: float = 0.2, sft_only: float = 0.1) -> Split:
  """The part that a problem belongs to: its sha256, read as a fraction of 1, against the shares asked for.

  Args:
    prompt: the problem's text.
    held_out: share of all problems that is held out. Problems held out at one share are so at any larger one.
    sft_only: share that SFT sees and RL does not.
  """
  fraction = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
  if fraction < held_out:
    return Split.HELD_OUT
  return Split.SFT_ONLY if fraction < held_out + sft_only else Split.TRAIN


def problems(
  split: Split,
  *,
  per_difficulty: int,
  seed: int = 0,
  difficulties: Sequence[int] = DIFFICULTIES,
  held_out: float = 0.2,
  sft_only: float = 0.1,
) -> list[dict[str, Any]]:
  """Different problems of one part of the data, the difficulties taking turns.

  Args:
    split: the part.
    per_difficulty: problems of each difficulty; fewer where the part has no more.
    seed: what is drawn depends on it; which part a problem belongs to does not.
    difficulties: numbers of steps, each from 1 to 30.
    held_out: as in `split_of`.
    sft_only: as in `split_of`.

  Returns:
    Rows {"prompt": "7+8-2*3=", "answer": "9", "difficulty": 3}.

  Raises:
    InputError: no difficulty or one outside [1, 30], no problems, or shares outside [0, 1].
  """
  if per_difficulty < 1 or not difficulties or not 1 <= min(difficulties) <= max(difficulties) <= len(_TERMS):
    raise InputError(
      f"arithmetic: per_difficulty {per_difficulty}, difficulties {tuple(difficulties)}; expected at least one problem "
      f"and difficulties from 1 to {len(_TERMS)}"
    )
  if min(held_out, sft_only) < 0 or held_out + sft_only > 1:
    raise InputError(f"arithmetic: shares held_out {held_out} + sft_only {sft_only}, expected at most 1 in all")

  def drawn(difficulty: int) -> Iterator[dict[str, Any]]:
    count = 0
    for prompt in _all_prompts(difficulty, random.Random(f"{seed}/{difficulty}")):
      if count == per_difficulty:
        return
      if split_of(prompt, held_out=held_out, sft_only=sft_only) == split:
        count += 1
        yield {"prompt": prompt, "answer": str(working(prompt)[-1]), "difficulty": difficulty}

  waiting = [drawn(difficulty) for difficulty in difficulties]
  rows = []
  while waiting:
    found = [(source, next(source, None)) for source in waiting]
    waiting = [source for source, row in found if row is not None]
    rows += [row for _, row in found if row is not None]
  return rows


def facts(split: Split, *, held_out: float = 0.2, sft_only: float = 0.0) -> list[dict[str, Any]]:
  """All sums and products of two one-digit numbers that belong to one part of the data, as questions in English.

  For pretrained models, which know the words and are unsure of the numbers.

  Returns:
    Rows {"prompt": "What is 7 * 8?", "answer": "56", "operator": "*"}; 200 over all parts.
  """
  rows = []
  for sign in "+*":
    for first, second in itertools.product(range(10), repeat=2):
      prompt = f"What is {first} {sign} {second}?"
      if split_of(prompt, held_out=held_out, sft_only=sft_only) == split:
        rows.append({"prompt": prompt, "answer": str(_OPERATORS[sign](first, second)), "operator": sign})
  return rows


def terms(prompt: str) -> tuple[int, list[str]]:
  """First digit and terms of a problem: "7+8-2*3=" is (7, ["+8", "-2", "*3"]).

  Raises:
    InputError: the text is no problem of this kind.
  """
  match = _PROBLEM.fullmatch(prompt)
  if match is None:
    raise InputError(f"arithmetic: {prompt!r} is no chain of one-digit numbers such as '7+8-2='")
  return int(match[1]), re.findall("..", match[2])


def apply(value: int, term: str) -> int:
  """One step: the last digit of `value` with a term such as "+8" applied to it. -2 has the last digit 8, as 10 - 2."""
  return _OPERATORS[term[0]](value, int(term[1])) % 10


def working(prompt: str) -> list[int]:
  """The running results of a problem, the answer last."""
  value, steps = terms(prompt)
  results = []
  for term in steps:
    value = apply(value, term)
    results.append(value)
  return results


def _all_prompts(difficulty: int, rng: random.Random) -> Iterator[str]:
  """Every problem of a difficulty once, in random order."""
  number, seen = 10 * math.perm(len(_TERMS), difficulty), set()
  while len(seen) < number:
    index = rng.randrange(number)
    if index in seen:
      continue
    seen.add(index)
    index, first = divmod(index, 10)
    unused, chosen = list(_TERMS), []
    for _ in range(difficulty):
      index, term = divmod(index, len(unused))
      chosen.append(unused.pop(term))
    yield f"{first}{''.join(chosen)}="
