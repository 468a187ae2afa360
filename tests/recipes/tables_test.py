import math

import pytest

from configs.recipes.costs import costs
from posttrain_jax.recipes import tables
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.prices import CostSettings
from posttrain_jax.runs.settings import parse
from tests.recipes.made_recipe import chain

COSTS = parse(CostSettings, costs())
STAGES = chain("a", "b")
EFFORTS = {
  "a": Effort(examples=1000, trained=2000, training_flops=989e12 * 0.4 * 3600),  # an hour of an H100
  "b": Effort(examples=10, generated=500, sampling_flops=989e12 * 0.1 * 3600),
}


def test_the_estimate_has_a_row_for_each_stage_and_their_sum():
  header, body = tables.estimated(STAGES, EFFORTS, COSTS)
  rows = [dict(zip(header, row)) for row in body]
  assert [row["stage"] for row in rows] == ["a", "b", "all"]
  assert [row["h100 h"] for row in rows] == ["1.00", "1.00", "2.00"] and rows[2]["h100 $"] == "4.00"
  assert [row["generated"] for row in rows] == ["–", "500", "500"]
  assert rows[0]["examples"] == "1 k" and rows[0]["people h"] == "–"


def test_actual_figures_stand_beside_the_estimate():
  found = {"a": EFFORTS["a"].with_tokens(generated=None, trained=3000)}
  header, body = tables.actual(STAGES, EFFORTS, found, {"a": 36.0}, COSTS)
  rows = [dict(zip(header, row)) for row in body]
  assert [row["stage"] for row in rows] == ["a", "all"]  # b has not ended
  assert (rows[0]["trained, estimated"], rows[0]["trained, actual"]) == ("2 k", "3 k")
  assert rows[1]["seconds here"] == "36.0" and rows[1]["$ here"] == "1.0e-03"


def test_text_has_aligned_columns():
  assert tables.as_text((["stage", "n"], [["a", "10"], ["long name", "5"]])) == (
    "stage       n\na          10\nlong name   5"
  )


@pytest.mark.parametrize(
  ("value", "text"),
  [(0, "–"), (1234.5, "1,234"), (3.14159, "3.14"), (0.012, "0.0120"), (1.2e-7, "1.2e-07"), (math.inf, "inf")],
)
def test_numbers(value, text):
  assert tables.number(value) == text
