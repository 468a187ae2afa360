import math

import pytest

from posttrain_jax.reports import headline, run_metrics
from tests.reports.made_records import dpo_run, reward_model_run, sft_run


def test_headlines_are_one_table_a_held_out_set():
  (table,) = headline.headlines(run_metrics.columns(reward_model_run()))
  assert (table.name, table.over, table.steps) == ("held-out comparisons", "prompts", (0, 4))
  assert table.rows[0].label == "accuracy" and table.rows[0].change == pytest.approx(0.35)
  assert table.rows[0].after == pytest.approx((0.8, 0.75, 0.85))
  assert [row.label for row in table.rows[1:5]] == [
    *("accuracy, significantly better", "accuracy, better", "accuracy, slightly better", "accuracy, negligibly better")
  ]
  answers, pairs = headline.headlines(run_metrics.columns(dpo_run()))
  assert (answers.rows[0].label, answers.over) == ("avg@8", "problems")
  assert answers.rows[-1].label == "KL to the reference, nats" and answers.rows[-1].after[0] == 1.0
  assert (pairs.name, pairs.over) == ("held-out preferences", "pairs")
  assert [row.change for row in pairs.rows] == pytest.approx([0.4, 0.0, 4.0, -8.0])
  labelled = [record | {"eval/preferences/answers": 7} for record in dpo_run()]
  assert headline.headlines(run_metrics.columns(labelled))[1].over == "answers"


def test_a_set_that_only_a_reward_model_judges_is_headed_by_its_score():
  scores = ((0.5, 0.4, 0.6), (0.9, 0.8, 1.0))
  records = [
    {"step": step, "eval/mine/avg@4": math.nan, "eval/mine/greedy": math.nan, "eval/mine/length": 9.0 + step}
    | {f"eval/mine/reward{end}": value for end, value in zip(("", "_low", "_high"), each)}
    for step, each in enumerate(scores)
  ]
  (table,) = headline.headlines(run_metrics.columns(records))
  assert (table.name, table.steps, table.best) == ("mine", (0, 1), (1, 0.9))
  assert [row.label for row in table.rows] == ["reward model's score", "answer length, tokens"]
  assert table.rows[0].change == pytest.approx(0.4) and table.rows[0].after == pytest.approx((0.9, 0.8, 1.0))
  both = run_metrics.columns([{**each, "eval/other/avg@4": 0.5} for each in records])
  assert [table.rows[0].label for table in headline.headlines(both)] == ["reward model's score", "avg@4"]


def test_best_validation_loss_is_the_lowest():
  (table,) = headline.headlines(run_metrics.columns(sft_run()))
  assert (table.best_is, table.best, table.steps) == ("Lowest", (4, 2.0), (2, 8))


def test_of_equal_best_values_the_last_counts():
  records = [{"step": i, "eval/heldout/avg@8": value} for i, value in enumerate((0.5, 0.7, 0.7))]
  (table,) = headline.headlines(run_metrics.columns(records))
  assert table.best == (2, 0.7)


def test_one_evaluation_has_no_change_and_a_metric_without_interval_has_no_ends():
  (table,) = headline.headlines(run_metrics.columns([{"step": 3, "eval/easy/avg@4": 0.5, "eval/easy/greedy": 0.25}]))
  assert [row.label for row in table.rows] == ["avg@4", "greedy"] and table.steps == (3, 3)
  assert table.rows[0].after is None and table.rows[0].change is None
  assert table.rows[0].before == pytest.approx((0.5, math.nan, math.nan), nan_ok=True)
