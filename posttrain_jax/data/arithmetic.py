"""Makes problems of chain arithmetic, the procedural task of the tiny configs.

"7+8-2*3=" is worked out from left to right, and each step keeps the last digit only: 5, 3, 9. The answer is 9.

The difficulty of a problem is its number of steps. One step is one of 300 facts (digit, operator, digit), which a tiny
model learns by heart. A chain of steps can only be answered by working through it. So a held-out problem is new to the
model, although each of its steps is known. No term ("+8") occurs twice in a problem: the model finds its place in the
problem by the current term, and two layers cannot tell two equal terms apart. There are 10 · 30! / (30 - d)! problems
of difficulty d.

A hash of a problem's text decides whether the problem is held out. So a problem is always on the same side, whatever
the seed and the order of drawing.
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
  """Names the part of the data that a problem belongs to."""

  TRAIN = "train"  # used in SFT and in RL
  SFT_ONLY = "sft_only"  # used in SFT, never in RL
  HELD_OUT = "held_out"  # used in neither


def split_of(prompt: str, *, held_out: float = 0.2, sft_only: float = 0.1) -> Split:
  """Returns the part of the data that a problem belongs to.

  The sha256 of the text is read as a number in [0, 1). Below `held_out` the problem is held out; below
  `held_out + sft_only` it is for SFT only; otherwise it is a training problem.

  Args:
    prompt: the problem's text.
    held_out: share of all problems that is held out. A problem held out at one share is held out at any larger share.
    sft_only: share of all problems that SFT sees and RL does not.
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
  """Draws different problems from one part of the data, the difficulties taking turns.

  Args:
    split: the part of the data.
    per_difficulty: number of problems of each difficulty; fewer if the part does not have that many.
    seed: decides which problems are drawn. The part that a problem belongs to does not depend on it.
    difficulties: numbers of steps, each from 1 to 30.
    held_out: as in `split_of`.
    sft_only: as in `split_of`.

  Returns:
    Rows {"prompt": "7+8-2*3=", "answer": "9", "difficulty": 3}.

  Raises:
    InputError: if `difficulties` is empty or has one outside [1, 30], if `per_difficulty` is below 1, if a share is
      negative, or if the two shares add up to more than 1.
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
  """Returns sums and products of two one-digit numbers, asked in English.

  This is a task for pretrained models, which know the words and are unsure of the numbers.

  Args:
    split: the part of the data that the questions belong to.
    held_out: as in `split_of`.
    sft_only: as in `split_of`.

  Returns:
    Rows {"prompt": "What is 7 * 8?", "answer": "56", "operator": "*"}. All parts together have 200.
  """
  rows = []
  for sign in "+*":
    for first, second in itertools.product(range(10), repeat=2):
      prompt = f"What is {first} {sign} {second}?"
      if split_of(prompt, held_out=held_out, sft_only=sft_only) == split:
        rows.append({"prompt": prompt, "answer": str(_OPERATORS[sign](first, second)), "operator": sign})
  return rows


def terms(prompt: str) -> tuple[int, list[str]]:
  """Returns the first digit and the terms of a problem.

  "7+8-2*3=" gives (7, ["+8", "-2", "*3"]).

  Raises:
    InputError: if the text is not a problem of this kind.
  """
  match = _PROBLEM.fullmatch(prompt)
  if match is None:
    raise InputError(f"arithmetic: {prompt!r} is not a chain of one-digit numbers such as '7+8-2='")
  return int(match[1]), re.findall("..", match[2])


def apply(value: int, term: str) -> int:
  """Returns the last digit after one step, such as "+8" applied to `value`.

  The last digit of a negative result is its remainder modulo 10: that of -2 is 8.
  """
  return _OPERATORS[term[0]](value, int(term[1])) % 10


def working(prompt: str) -> list[int]:
  """Returns the result of each step of a problem; the last one is the answer."""
  value, steps = terms(prompt)
  results = []
  for term in steps:
    value = apply(value, term)
    results.append(value)
  return results


def _all_prompts(difficulty: int, rng: random.Random) -> Iterator[str]:
  """Yields every problem of a difficulty once, in random order."""
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
