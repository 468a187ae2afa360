"""Tests which answer to another prompt a pair or a single answer gets."""

import dataclasses

import numpy as np
import pytest

from posttrain_jax.data.mismatched import with_mismatched
from posttrain_jax.data.preferences import Comparison, Strength
from posttrain_jax.types import InputError


def made(prompt, *answers, ranks=(0, 1), **more):
  return Comparison(prompt, tuple(np.array(answer, np.int32) for answer in answers), ranks, **more)


def test_mismatched_answers_are_the_better_ones_to_the_next_other_prompt():
  a1 = made((5,), (10, 1), (11, 1), strength=Strength.BETTER)
  a2 = made((5,), (20, 1), (21, 1))
  b = made((6,), (30, 1), (31,), ranks=(1, 0), ends=(1, 0))
  found = with_mismatched([a1, a2, b])
  assert [c.answers[2].tolist() for c in found] == [[31], [31], [10, 1]]
  assert [c.ends for c in found] == [(1, 1, 0), (1, 1, 0), (1, 0, 1)]
  assert [c.ranks for c in found] == [(0, 1, None), (0, 1, None), (1, 0, None)]
  assert [c.beaten() for c in found] == [[(0, 1)], [(0, 1)], [(1, 0)]]  # the third is not judged
  assert found[0].strength_of(0, 1) == Strength.BETTER
  with pytest.raises(InputError, match="no other prompt among 2 comparisons"):
    with_mismatched([a1, a2])
  with pytest.raises(InputError, match="3 answers, expected a pair"):
    with_mismatched(found)


def test_a_single_answer_gets_the_next_one_to_another_prompt_whatever_its_label():
  good, bad = (made((5,), (n, 1), ranks=(0,), desirable=n == 10) for n in (10, 20))
  cut = made((6,), (30,), ranks=(0,), desirable=True, ends=(0,))
  found = with_mismatched([good, bad, cut])
  assert [[a.tolist() for a in c.answers] for c in found] == [[[10, 1], [30]], [[20, 1], [30]], [[30], [10, 1]]]
  assert [c.ends for c in found] == [(1, 0), (1, 0), (0, 1)]
  assert [(c.desirable, c.beaten()) for c in found] == [(True, []), (False, []), (True, [])]
  with pytest.raises(InputError, match="2 answers, expected one"):
    with_mismatched(found)
  with pytest.raises(InputError, match="no other prompt among 2 comparisons"):
    with_mismatched([good, dataclasses.replace(bad)])
