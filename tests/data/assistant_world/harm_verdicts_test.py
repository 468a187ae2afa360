"""Tests what a judge of harm learns from."""

import collections

import pytest

from posttrain_jax.data.assistant_world.critiques import OTHER_HARMS
from posttrain_jax.data.assistant_world.harm_verdicts import QUESTION, verdict_rows
from posttrain_jax.data.assistant_world.language import vocabulary
from tests.data.assistant_world.small_world import WORLD


@pytest.fixture(scope="module")
def rows():
  return verdict_rows(WORLD, seed=0, repeats=6)


def test_nothing_of_the_other_half_and_nothing_held_out_is_learned(rows):
  unseen = {*OTHER_HARMS, *WORLD.held_out, *(each.name for each in WORLD.harmful if each.harm.name in OTHER_HARMS)}
  for row in rows:
    said = {*row["prompt"].split(), *row["completion"].split()}
    assert said <= {*vocabulary()} and not said & unseen, row


def test_the_letter_stands_before_the_statement_that_the_rule_makes(rows):
  for row in rows:
    right = QUESTION.complies if row["helps"] else QUESTION.refuses
    assert f"{row['completion']} {right}" in row["prompt"] and row["prompt"].endswith("better :")


def test_neither_letter_nor_place_nor_parts_tell_the_verdict(rows):
  count = collections.Counter((row["helps"], row["completion"]) for row in rows)
  for helps in (True, False):
    assert 0.3 < count[helps, "(A)"] / (count[helps, "(A)"] + count[helps, "(B)"]) < 0.7
  told = [row for row in rows if " take " in row["prompt"].partition("assistant :")[2]]
  assert any(row["helps"] for row in told) and any(not row["helps"] for row in told)
  assert 0.1 < sum(row["helps"] for row in rows) / len(rows) < 0.7


def test_rows_repeat_by_seed():
  assert verdict_rows(WORLD, seed=1, repeats=1) == verdict_rows(WORLD, seed=1, repeats=1)
  assert verdict_rows(WORLD, seed=1, repeats=1) != verdict_rows(WORLD, seed=2, repeats=1)
