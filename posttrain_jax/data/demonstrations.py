"""Writes demonstrations of chain arithmetic as a crowd of three kinds of people would.

The mixture imitates text from the web. For "7+8-2*3=":
- the careful one works it out: "+8=5-2=3*3=9 Answer: 9";
- the hasty one skims it and applies the last term to the first number: "Answer: 1". This is right for problems of one
  step and seldom right for longer ones;
- the rambling one works it out, doubts it and starts again: "+8=5-2=3*3=9 Wait, +8=5-2=3*3=9 Answer: 9". Sometimes
  such a text goes on until there is no room left.

All of them make a slip now and then. The longer a problem, the smaller the share of careful people. A model trained on
this text answers as the crowd does, no matter how long it is trained. It answers long problems mostly by skimming,
although it has learned to work them out. RL then has something to improve: it makes the right way more likely, on
problems never seen before, too.
"""

import dataclasses
import enum
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data import arithmetic
from posttrain_jax.types import InputError

# The vocabulary of demonstrations, one token per term. `vocabularies.tiny_tokenizer` takes these symbols.
SYMBOLS = (
  *"0123456789=",
  *(f"{sign}{digit}" for sign in "+-*=" for digit in range(10)),
  " Wait, ",
  " Answer: ",
)

_PATIENCE = 1000  # characters after which the rambling one stops, too


class Demonstrator(enum.StrEnum):
  """Names the kind of person who wrote a demonstration."""

  CAREFUL = "careful"
  RAMBLING = "rambling"
  HASTY = "hasty"


@dataclasses.dataclass(frozen=True)
class Crowd:
  """Describes the crowd: the share of each kind of person, and their errors.

  Attributes:
    careful: share of careful demonstrations for difficulty 1, 2, ...; the last share also holds for larger ones.
    rambling: share of rambling demonstrations, in the same form. The rest of the demonstrations is hasty.
    slip: probability that one step's result is wrong (any other digit). The next steps use the wrong digit.
    doubt: probability that the rambling one starts again after finishing. It is drawn anew after each pass.
  """

  careful: tuple[float, ...]
  rambling: tuple[float, ...]
  slip: float
  doubt: float

  def __post_init__(self):
    """Checks that every share and probability is between 0 and 1.

    Raises:
      InputError: if one is not, or if `careful` and `rambling` differ in length.
    """
    if not self.careful or len(self.careful) != len(self.rambling):
      raise InputError(f"crowd: {len(self.careful)} careful and {len(self.rambling)} rambling shares, expected as many")
    for share in (*map(sum, zip(self.careful, self.rambling)), *self.careful, *self.rambling, self.slip, self.doubt):
      if not 0 <= share <= 1:
        raise InputError(f"crowd: a share or probability of {share}, expected one between 0 and 1")

  def shares(self, difficulty: int) -> dict[Demonstrator, float]:
    """Returns the share of each kind of person for problems of a difficulty."""
    i = min(difficulty, len(self.careful)) - 1
    careful, rambling = self.careful[i], self.rambling[i]
    return {
      Demonstrator.CAREFUL: careful,
      Demonstrator.RAMBLING: rambling,
      Demonstrator.HASTY: max(0.0, 1 - careful - rambling),
    }


USUAL_CROWD = Crowd(
  careful=(0.9, 0.5, 0.25, 0.12, 0.08, 0.05), rambling=(0.05, 0.1, 0.15, 0.2, 0.25, 0.3), slip=0.02, doubt=0.7
)
CAREFUL_CROWD = Crowd(careful=(1.0,), rambling=(0.0,), slip=0.0, doubt=0.0)  # works everything out, without a mistake


def demonstrations(
  problems: Sequence[Mapping[str, Any]], *, crowd: Crowd = USUAL_CROWD, copies: int = 1, seed: int = 0
) -> list[dict[str, Any]]:
  """Lets the crowd write answers to problems.

  Args:
    problems: rows with "prompt" and "difficulty" (`arithmetic.problems`).
    crowd: the shares and errors of the people who write.
    copies: demonstrations of each problem. A new person is drawn for each of them.
    seed: seed of all draws.

  Returns:
    The rows with two more columns: "completion", without an end token, and "demonstrator". All rows come once, then
    all again, `copies` times.
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
  """Works through a problem once and returns the text and its result."""
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
