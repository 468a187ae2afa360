import numpy as np
import pytest

from posttrain_jax.reports import facts, run_metrics
from tests.reports.made_records import reward_model_run, sft_run


def by_label(columns, warm_up=None):
  return {label: (value, remark) for label, value, remark in facts.facts(columns, warm_up or {})}


def test_no_step_gives_no_fact():
  assert facts.facts({}, {}) == []


def test_warm_up_plateau_is_the_mean_of_the_last_quarter():
  values = np.full(80, np.nan)
  values[::10] = [0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.625, 0.375]  # 8 evaluations, so the last quarter is two
  found = by_label({}, {"step": np.arange(80.0), "eval/easy/avg@4": values})
  assert found == {
    "Warm-up plateau": ("0.500", "easy avg@4, mean over warm-up steps 60–70, across which it moved −0.250")
  }
  one = by_label({}, {"step": np.array([7.0]), "eval/easy/avg@4": np.array([0.25])})
  assert one == {"Warm-up plateau": ("0.250", "easy avg@4, warm-up step 7")}


def test_data():
  columns = run_metrics.columns(sft_run())
  words = "4\u202f945 rows, 309\u202f902 tokens, 173\u202f492 learned tokens, rows 97.9 % full, "
  words += "2\u202f323 left out: over limit"
  assert by_label(columns)["Data"] == ("22\u202f970 examples", words)
  assert by_label({}, columns)["Warm-up data"] == ("22\u202f970 examples", words)
  comparisons = by_label(run_metrics.columns(reward_model_run()))["Data"]
  assert comparisons == (
    "3\u202f288 comparisons",
    "3\u202f288 pairs, 347 held out, 1\u202f903 left out: answer too long",
  )


def test_time_updates_and_tokens():
  columns = {
    "step": np.array([0.0, 1, 2]),
    "updates": np.array([0.0, 4, 8]),
    "time/train": np.array([np.nan, 10, 20]),
    "time/rollout": np.array([np.nan, 5, 5]),
    "sampling/tokens_generated": np.array([np.nan, 1000, 500]),
  }
  found = by_label(columns, {"step": np.zeros(1), "time/total": np.array([7.0])})
  assert found["Training time"] == ("40 s", "and 7 s of warm-up")
  assert found["Steps"] == ("2", "8 optimiser updates") and found["Tokens generated"] == ("1\u202f500", "")
  # A total takes the place of the phases' sum.
  more = columns | {"time/total": np.array([1.0, 16, 26]), "sampling/tokens_trained": np.array([np.nan, 200, 100])}
  found = by_label(more)
  assert found["Training time"] == ("43 s", "all phases") and found["Tokens generated"][1] == "300 trained on"


@pytest.mark.parametrize(
  "value, digits, text",
  [
    (0.12345, 3, "0.123"),
    (-0.5, 2, "−0.50"),
    (0.00001234, 3, "1.23e−05"),
    (-7.88e-8, 3, "0.000"),  # a KL of 0 in float32
    (-0.0, 3, "0.000"),
    (1234567, 3, "1\u202f234\u202f567"),
    (7, 3, "7"),
    (None, 3, "–"),
    (float("nan"), 3, "–"),
    ("x", 3, "–"),
  ],
)
def test_numbers_are_written_for_reading(value, digits, text):
  assert facts.format_number(value, digits) == text


def test_what_an_evaluation_set_of_ones_own_prompts_is():
  config = [
    ("prompts.path", "mine.jsonl"),
    ("eval.own_share", "0.1"),
    ("eval.sets.heldout.prompts.path", '""'),
    ("eval.sets.other.prompts.path", "test.jsonl"),
    ("digests.prompts.held_out", "0.1"),
  ]
  remark = "prompts that a hash holds out (10%); they are not trained on"
  assert facts.own_sets(config) == [("Evaluation set heldout", "mine.jsonl", remark)]
  assert facts.own_sets(config[:-1]) == [] and facts.own_sets([]) == []


@pytest.mark.parametrize("value, text", [(0.25, "+0.250"), (-0.25, "−0.250"), (3e-8, "0.000"), (-3e-8, "0.000")])
def test_a_change_has_a_sign_unless_it_is_rounding(value, text):
  assert facts.format_signed(value) == text
