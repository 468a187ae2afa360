"""Tests which answers share a row: all of them once, within the budget, and in few and even rows."""

import numpy as np
import pytest

from posttrain_jax.learner.row_plan import Piece, most_rows, plain_rows, plan_rows

ANY = 10**6  # no limit


def loads(rows, prefixes, lengths):
  return [sum(int(prefixes[p.prompt] + lengths[p.prompt, list(p.answers)].sum()) for p in row) for row in rows]


def assert_whole(rows, prefixes, lengths, tokens, most_answers=ANY):
  placed = sorted((piece.prompt, g) for row in rows for piece in row for g in piece.answers)
  assert placed == [(int(p), int(g)) for p, g in np.argwhere(lengths > 0)]
  assert max(loads(rows, prefixes, lengths)) <= tokens
  assert max(sum(len(piece.answers) for piece in row) for row in rows) <= most_answers


def test_groups_stay_whole_where_they_fit_and_fill_rows():
  # Groups of 10, 6 and 4 tokens in rows of 10: the second and third share one.
  prefixes, lengths = np.array([2, 2, 2]), np.array([[4, 4], [2, 2], [1, 1]])
  rows = plan_rows(prefixes, lengths, tokens=10, most_answers=ANY, most_rows=3)
  assert rows == [[Piece(0, (0, 1))], [Piece(1, (0, 1)), Piece(2, (0, 1))]]


def test_a_group_that_is_too_large_is_cut_and_its_prompt_repeated():
  prefixes, lengths = np.array([3]), np.array([[5, 0, 4, 3]])
  rows = plan_rows(prefixes, lengths, tokens=12, most_answers=ANY, most_rows=4)
  assert rows == [[Piece(0, (0, 2))], [Piece(0, (3,))]]


def test_gaps_are_filled_if_that_is_worth_another_prompt():
  # Rows of 10. The first group leaves 4 tokens, of which a second copy of the other's prompt would take 1 or 3.
  lengths = np.array([[5, 0, 0], [3, 3, 3]])
  short = plan_rows(np.array([1, 1]), lengths, tokens=10, most_answers=ANY, most_rows=4)
  assert len(short) == 2 and loads(short, np.array([1, 1]), lengths) == [10, 6]
  # The group of 9 + 1 comes first. Here it is cut anyway, and the group of 5 + 3 gets a row of its own.
  rows = plan_rows(np.array([3, 1]), np.array([[5, 0, 0], [3, 3, 3]]), tokens=10, most_answers=ANY, most_rows=4)
  assert_whole(rows, np.array([3, 1]), lengths, 10)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("most_answers", [ANY, 5])
def test_random_lengths(shards, most_answers):
  for seed in range(20):
    rng = np.random.default_rng(seed)
    prefixes, lengths = rng.integers(0, 30, 12), np.minimum(rng.geometric(1 / 20, (12, 6)), 64)
    lengths[rng.random(lengths.shape) < 0.1] = 0
    bound = most_rows(prompts=12, group=6, prefix=29, length=64, tokens=300, most_answers=most_answers)
    rows = plan_rows(prefixes, lengths, tokens=300, most_answers=most_answers, shards=shards, most_rows=bound)
    assert len(rows) <= bound
    assert_whole(rows, prefixes, lengths, 300, most_answers)
    if most_answers == ANY:
      least = -(-(prefixes[(lengths > 0).any(1)].sum() + lengths.sum()) // 300)
      assert len(rows) <= least + (1 if shards == 1 else shards)


def test_rows_that_are_computed_together_have_about_the_same_tokens():
  prefixes, lengths = np.zeros(8, int), np.full((8, 4), 10)
  rows = plan_rows(prefixes, lengths, tokens=300, most_answers=ANY, shards=4, most_rows=8)
  assert sorted(loads(rows, prefixes, lengths)) == [80] * 4  # not 300 and 20


def test_most_rows_is_a_bound_for_answers_at_the_cap():
  for tokens, group, answers, expected in ((21, 4, ANY, 3 * 2), (100, 4, ANY, 1), (100, 4, 4, 3), (21, 4, 1, 12)):
    sizes = dict(tokens=tokens, most_answers=answers)
    assert most_rows(prompts=3, group=group, prefix=5, length=7, **sizes) == expected
    rows = plain_rows(np.full(3, 5), np.full((3, group), 7), **sizes)
    assert len(rows) == expected
    assert_whole(rows, np.full(3, 5), np.full((3, group), 7), tokens, answers)


def test_the_plan_falls_back_to_plain_rows():
  prefixes, lengths = np.array([2, 2, 2]), np.array([[4, 4], [2, 2], [1, 1]])
  rows = plan_rows(prefixes, lengths, tokens=10, most_answers=ANY, most_rows=1)  # as if the bound were reached
  assert_whole(rows, prefixes, lengths, 10)


@pytest.mark.parametrize("shards", [1, 4])
def test_groups_that_are_kept_together(shards):
  for seed in range(20):
    rng = np.random.default_rng(seed)
    prefixes, lengths = rng.integers(0, 30, 30), rng.integers(0, 20, (30, 3))
    bound = most_rows(prompts=30, group=3, prefix=29, length=19, tokens=90, most_answers=ANY)
    options = dict(tokens=90, most_answers=ANY, shards=shards, most_rows=bound)
    rows = plan_rows(prefixes, lengths, together=True, **options)
    assert_whole(rows, prefixes, lengths, 90)
    pieces = [piece.prompt for row in rows for piece in row]
    assert len(set(pieces)) == len(pieces) and len(rows) <= bound
  # Rows of 10: the second group of 6 would be cut to fill the first row.
  prefixes, lengths = np.zeros(2, int), np.array([[3, 3], [3, 3]])
  cut = plan_rows(prefixes, lengths, tokens=10, most_answers=ANY, most_rows=2)
  whole = plan_rows(prefixes, lengths, tokens=10, most_answers=ANY, most_rows=2, together=True)
  assert loads(cut, prefixes, lengths) == [9, 3] and loads(whole, prefixes, lengths) == [6, 6]


def test_rows_with_the_most_work_come_first_and_nothing_gives_no_row():
  prefixes, lengths = np.array([0, 50]), np.array([[30, 30], [10, 0]])
  rows = plan_rows(prefixes, lengths, tokens=60, most_answers=ANY, most_rows=4)
  # 2 · 30 · 31 / 2 = 930 pairs against 50 · 51 / 2 + 10 · 50 + 55 = 1,830.
  assert [row[0].prompt for row in rows] == [1, 0]
  assert plan_rows(prefixes, np.zeros((2, 2), int), tokens=60, most_answers=ANY, most_rows=4) == []
