"""Decides who rates which item, in which order, and which answer stands where.

All of it follows from the seed and the names, so a study that goes on after a stop is the same study.
"""

import random
from collections.abc import Sequence

from posttrain_jax.types import InputError


def check_overlap(raters: Sequence[str], overlap: int) -> None:
  """Refuses more raters of an item than there are.

  Raises:
    InputError: if there are not as many raters.
  """
  if not 1 <= overlap <= len(raters):
    raise InputError(f"--overlap={overlap}: {len(raters)} raters, expected from 1 to {len(raters)} raters of each item")


def assign(items: int, raters: Sequence[str], *, overlap: int, seed: int) -> dict[str, list[int]]:
  """Gives each item to `overlap` different raters.

  The items go to those who have the fewest so far; among equals, to those who have shared the fewest items with the
  raters that the item already has. So numbers of items differ by at most one, and all pairs of raters can be compared.

  Args:
    items: number of items.
    raters: their names.
    overlap: how many raters see an item.
    seed: decides what is left open.

  Returns:
    For each rater the items in a random order of their own.

  Raises:
    InputError: if there are fewer raters than `overlap`.
  """
  check_overlap(raters, overlap)
  rng = random.Random(f"{seed}/assignment")
  queues: dict[str, list[int]] = {name: [] for name in raters}
  shared = {(a, b): 0 for a in raters for b in raters}
  for item in rng.sample(range(items), items):
    chosen: list[str] = []
    for _ in range(overlap):
      open_to = [name for name in raters if name not in chosen]
      least = {name: (len(queues[name]), sum(shared[name, other] for other in chosen)) for name in open_to}
      fewest = min(least.values())
      chosen.append(rng.choice([name for name in open_to if least[name] == fewest]))
    for name in chosen:
      queues[name].append(item)
      for other in chosen:
        shared[name, other] += 1
  for name, queue in queues.items():
    random.Random(f"{seed}/order/{name}").shuffle(queue)
  return queues


def with_checks(queue: Sequence[str], checks: Sequence[str], *, every: int, seed: int, rater: str) -> list[str]:
  """Puts a check among each `every` items of a rater.

  Its place among them is random, so that nobody can count. A rater gets each check once at most; when all were given,
  the rest of the items comes without.

  Args:
    queue: names of the rater's items in order.
    checks: names of the checks.
    every: number of items for one check; 0 for no checks.
    seed: of order and places.
    rater: whose checks they are.

  Returns:
    Names of items and checks in order.
  """
  if not every:
    return list(queue)
  rng = random.Random(f"{seed}/checks/{rater}")
  waiting = rng.sample(list(checks), len(checks))
  found: list[str] = []
  for start in range(0, len(queue), every):
    block = list(queue[start : start + every])
    if waiting and len(block) == every:
      block.insert(rng.randrange(len(block) + 1), waiting.pop())
    found += block
  return found


def order_of(answers: int, *, item: str, rater: str, seed: int) -> list[int]:
  """Returns the answer that stands at each place on a rater's page."""
  return random.Random(f"{seed}/sides/{rater}/{item}").sample(range(answers), answers)
