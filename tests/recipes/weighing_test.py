import math

import pytest

from posttrain_jax.data.constitution import Principle
from posttrain_jax.recipes.weighing import weigh


def principle(number, priority, hard=False):
  return Principle(number, f"p{number}", priority, ("fire",), "fire is wrong", "no fire", hard)


def test_all_principles_are_weighed_together_and_a_higher_priority_weighs_twice_as_much():
  found = weigh({1: 0.6, 2: 0.2}, [principle(1, 0), principle(2, 1)], 2)
  total = 2 * math.log(0.6 / 0.4) + math.log(0.2 / 0.8)
  assert found.probability == pytest.approx(1 / (1 + math.exp(-total)))
  assert (found.decided, found.vetoed) == (2, False)
  swapped = weigh({1: 0.6, 2: 0.3}, [principle(1, 1), principle(2, 0)], 2)
  kept = weigh({1: 0.7, 2: 0.3}, [principle(1, 0), principle(2, 1)], 2)
  assert swapped.probability < 0.5 < kept.probability and (swapped.decided, kept.decided) == (2, 1)


def test_a_hard_constraint_decides_alone_where_it_is_sure():
  others = [principle(1, 0), principle(2, 0)]
  assert weigh({1: 0.99, 2: 0.99, 3: 0.2}, [*others, principle(3, 1, True)], 2) == (0.2, 3, True)
  unsure = weigh({1: 0.99, 2: 0.99, 3: 0.4}, [*others, principle(3, 1, True)], 2)
  assert unsure.probability > 0.9 and not unsure.vetoed
  assert not weigh({1: 0.99, 2: 0.99, 3: 0.2}, [*others, principle(3, 1)], 2).vetoed


def test_principles_that_say_nothing_leave_a_half():
  assert weigh({1: 0.5, 2: 0.5}, [principle(1, 0), principle(2, 1)], 2).probability == 0.5
  assert weigh({}, [principle(1, 0)], 2) == (0.5, 0, False)
  assert weigh({2: 0.8}, [principle(1, 0), principle(2, 1)], 2).decided == 2
