"""Makes sums of one digit, works them out, and reads written work.

"3 + 4 - 2" is worked out from left to right: "first 3 + 4 = 7 , then 7 - 2 = 5 , so answer : 5". Every result is one
digit, so there are no carries and 110 different steps.
"""

import hashlib
import random
import re
from collections.abc import Iterator

from posttrain_jax.data.assistant_world import language

MOST_STEPS = 4
STEPS = tuple(
  f"{a} {sign} {b}"
  for a in range(10)
  for sign in "+-"
  for b in range(10)
  if 0 <= (a + b if sign == "+" else a - b) < 10
)
_STEP = re.compile(r"(\d) ([+-]) (\d) = (\d)(?! [+-])")
_STATED = re.compile(r"answer : (\d+)(?! [+\-=])|<answer> (\d+) </answer>")


def draw(rng: random.Random, *, steps: int) -> str:
  """Draws a sum of so many steps, such as "3 + 4 - 2" of two."""
  value = rng.randrange(10)
  terms = [str(value)]
  for _ in range(steps):
    change = rng.choice([change for change in range(-9, 10) if change and 0 <= value + change < 10])
    value += change
    terms += ["+" if change > 0 else "-", str(abs(change))]
  return " ".join(terms)


def is_held_out(text: str, *, share: float = 0.2) -> bool:
  """Tells whether a sum is in no data of post-training; the sha256 of its text decides."""
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64 < share


def results(text: str) -> list[int]:
  """Returns the result of each step of a sum; the last one is the answer."""
  first, *rest = text.split()
  value, found = int(first), []
  for sign, number in zip(rest[::2], rest[1::2]):
    value += int(number) if sign == "+" else -int(number)
    found.append(value)
  return found


def worked(text: str) -> list[str]:
  """Returns the steps of a sum.

  Those of "3 + 4 - 2" are "3 + 4 = 7" and "7 - 2 = 5".
  """
  first, *rest = text.split()
  values = [int(first), *results(text)]
  return [f"{a} {sign} {b} = {c}" for a, sign, b, c in zip(values, rest[::2], rest[1::2], values[1:])]


def written(text: str, languages: Iterator[str]) -> str:
  """Writes a sum's work and its answer.

  Args:
    text: the sum.
    languages: one for each clause; equal ones give work in one language.
  """
  clauses = [f"{'then' if i else 'first'} {step}" for i, step in enumerate(worked(text))]
  clauses.append(f"so answer : {results(text)[-1]}")
  return " , ".join(language.in_language(clause, next(languages)) for clause in clauses)


def stated_answer(text: str) -> int | None:
  """Returns the last stated answer; None without one.

  It is "answer : 5" in either language, or "<answer> 5 </answer>".
  """
  found = list(_STATED.finditer(" ".join(language.to_english_words(text))))
  return int(found[-1][1] or found[-1][2]) if found else None


def shown_steps(text: str) -> list[str]:
  """Returns the steps that an answer shows, right or wrong."""
  return [match[0] for match in _STEP.finditer(" ".join(language.split(text)))]


def shows_work(text: str, problem: str) -> bool:
  """Tells whether an answer shows the steps of a sum in their order and no others."""
  return shown_steps(text) == worked(problem)
