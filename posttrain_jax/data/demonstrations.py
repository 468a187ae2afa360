"""Demonstrations of chain arithmetic by three people of different diligence, as text found on the web is.

For "7+8-2*3=":
- the careful one works it out: "+8=5-2=3*3=9 Answer: 9";
- the hasty one skims it, applies the last term to the first number and says so: "Answer: 1". On problems of one step
  that is right; on longer ones it seldom is;
- the rambling one works it out, doubts it and starts again: "+8=5-2=3*3=9 Wait, +8=5-2=3*3=9 Answer: 9", at times until
  there is no room left.

All of them slip now and then. The longer the problem, the rarer is care. A model trained on this text answers as the
crowd does, however long it is trained: long problems mostly by skimming, though it has learned to work them out. That
leaves to RL what RL can do: prefer what is right, on problems never seen as well.
"""

import dataclasses
import enum
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data import arithmetic
from posttrain_jax.types import InputError

# The vocabulary that demonstrations need, one token a term: what `tokenizer.tiny_tokenizer` takes.
SYMBOLS = (
  *"0123456789=",
  *(f"{sign}{digit}" for sign in "+-*=" for digit in range(10)),
  " Wait, ",
  " Answer: ",
)

_PATIENCE = 1000  # characters after which even the rambling one stops


class Demonstrator(enum.StrEnum):
  """Who wrote a demonstration."""

  CAREFUL = "careful"
  RAMBLING = "rambling"
  HASTY = "hasty"


@dataclasses.dataclass(frozen=True)
class Crowd:
  """Who writes how much.

  Attributes:
    careful: share of careful demonstrations by difficulty, from 1 on; the last one also holds beyond it.
    rambling: share of rambling ones, likewise; the rest is hasty.
    slip: probability that one step's result is wrong (any other digit); the steps after it go on from there.
    doubt: probability that the rambling one, having finished, starts again; each time anew.
  """

  careful: tuple[float, ...] = (0.9, 0.5, 0.25, 0.12, 0.08, 0.05)
  rambling: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
  slip: float = 0.02
  doubt: float = 0.7

  def __post_init__(self):
    """Raises InputError on shares and probabilities that are none."""
    if not self.careful or len(self.careful) != len(self.rambling):
      raise InputError(f"crowd: {len(self.careful)} careful and {len(self.rambling)} rambling shares, expected as many")
    for share in (*map(sum, zip(self.careful, self.rambling)), *self.careful, *self.rambling, self.slip, self.doubt):
      if not 0 <= share <= 1:
        raise InputError(f"crowd: a share or probability of {share}, expected one between 0 and 1")

  def shares(self, difficulty: int) -> dict[Demonstrator, float]:
    """Who writes how much about problems of a difficulty."""
    i = min(difficulty, len(self.careful)) - 1
    careful, rambling = self.careful[i], self.rambling[i]
    return {
      Demonstrator.CAREFUL: careful,
      Demonstrator.RAMBLING: rambling,
      Demonstrator.HASTY: max(0.0, 1 - careful - rambling),
    }


def demonstrations(
  problems: Sequence[Mapping[str, Any]], *, crowd: Crowd = Crowd(), copies: int = 1, seed: int = 0
) -> list[dict[str, Any]]:
  """What the crowd writes about problems.

  Args:
    problems: rows with "prompt" and "difficulty" (`arithmetic.problems`).
    crowd: who writes how much.
    copies: demonstrations of each problem, each by somebody drawn anew.
    seed: of all draws.

  Returns:
    The rows with "completion", without an end token, and "demonstrator" added; all rows once, then all again.
  """
  rng = random.Random(seed)
  rows = []
  for row in itertools.chain.from_iterable(itertools.repeat(problems, copies)):
    shares = crowd.shares(row["difficulty"])
    who = rng.choices(list(shares), list(shares.values()))[0]
    rows.append({**row, "completion": _WRITERS[who](row["prompt"], crowd, rng), "demonstrator": str(who)})
  return rows


def _slip(result: int, crowd: Crowd, rng: random.Random) -> int:
  return (result + rng.randrange(1, 10)) % 10 if rng.random() < crowd.slip else result


def _work(prompt: str, crowd: Crowd, rng: random.Random) -> tuple[str, int]:
  """One pass over the problem, and the result it comes to."""
  value, steps = arithmetic.terms(prompt)
  text = ""
  for term in steps:
    value = _slip(arithmetic.apply(value, term), crowd, rng)
    text += f"{term}={value}"
  return text, value


def _careful(prompt: str, crowd: Crowd, rng: random.Random) -> str:
  text, value = _work(prompt, crowd, rng)
  return f"{text} Answer: {value}"


def _rambling(prompt: str, crowd: Crowd, rng: random.Random) -> str:
  text, value = _work(prompt, crowd, rng)
  while rng.random() < crowd.doubt and len(text) < _PATIENCE:
    again, value = _work(prompt, crowd, rng)
    text += f" Wait, {again}"
  return f"{text} Answer: {value}"


def _hasty(prompt: str, crowd: Crowd, rng: random.Random) -> str:
  first, steps = arithmetic.terms(prompt)
  return f" Answer: {_slip(arithmetic.apply(first, steps[-1]), crowd, rng)}"


_WRITERS = {Demonstrator.CAREFUL: _careful, Demonstrator.RAMBLING: _rambling, Demonstrator.HASTY: _hasty}
