import numpy as np

from posttrain_jax.reports import preference_panels
from tests.reports.made_records import curves, dpo_run, reward_model_run, sections, titles


def test_reward_model_panels():
  found = sections(reward_model_run())
  assert list(found) == ["Reward model", "Optimisation"]
  panels = found["Reward model"]
  accuracy = curves(panels, "Preference accuracy")
  assert list(accuracy) == ["accuracy", "eval/heldout/accuracy", "eval/heldout/winner_longer"]
  assert accuracy["eval/heldout/accuracy"].band == ("eval/heldout/accuracy_low", "eval/heldout/accuracy_high")
  levels = curves(panels, "Held-out accuracy by strength of preference").values()
  assert [level.label for level in levels] == ["significantly", "better", "slightly", "negligibly"]
  rewards = curves(panels, "Rewards")
  assert rewards["eval/heldout/score_p50"].band == ("eval/heldout/score_p05", "eval/heldout/score_p95")
  assert "eval/demonstrations/mean" in rewards
  assert list(curves(panels, "Calibration")) == ["eval/heldout/ece", "eval/heldout/brier"]
  assert len(curves(panels, "Reward and length")) == 2 and len(curves(panels, "Margin")) == 2
  assert curves(found["Optimisation"], "Loss").keys() == {"loss", "eval/heldout/log_loss"}


def test_preference_panels_take_the_implicit_rewards_for_themselves():
  found = sections(dpo_run())
  assert list(found) == ["Evaluation", "Preferences", "Optimisation"]  # no panel of reward components
  assert "heldout: KL to the reference" in titles(found["Evaluation"])
  panels = found["Preferences"]
  for which in ("chosen", "rejected"):
    keys = curves(panels, f"{which.capitalize()} answers: change of log likelihood")
    assert list(keys) == [f"logprob/{which}_moved", f"eval/preferences/logprob/{which}_moved"]
  accuracy = curves(panels, "Implicit reward accuracy")["eval/preferences/reward/accuracy"]
  assert accuracy.band == ("eval/preferences/reward/accuracy_low", "eval/preferences/reward/accuracy_high")
  assert list(curves(panels, "Length of pairs")) == ["length/chosen", "length/rejected"]
  assert found["Optimisation"][0].unit == "loss per pair"


def test_strengths_from_the_strongest_on_and_unknown_ones_last():
  names = ("negligibly", "odd", "better", "significantly")
  columns = {f"eval/heldout/strength/{name}/accuracy": np.zeros(1) for name in names}
  assert list(preference_panels.strengths(columns).values()) == ["significantly", "better", "negligibly", "odd"]


def test_only_direct_preference_methods_have_implicit_rewards():
  columns = {"step": np.zeros(1), "reward/accuracy": np.zeros(1)}
  assert preference_panels.implicit_rewards(columns) == set()
  assert preference_panels.reward_model(columns) == preference_panels.direct_preference(columns) == []
  direct = columns | {"logprob/chosen_moved": np.zeros(1)}
  assert "reward/accuracy" in preference_panels.implicit_rewards(direct)
