"""Reports of supervised, reward model and preference runs; `report_test` has the page itself."""

import base64
import json
import re

import matplotlib.figure
import numpy as np
import pytest

from posttrain_jax.reports import headline, report, run_metrics, training_panels

STRENGTHS = ("better", "negligibly", "significantly", "slightly")  # as in the journal: by name


def interval(key, value):
  return {key: value, f"{key}_low": value - 0.05, f"{key}_high": value + 0.05}


def sft_run():
  records = [
    {"step": i, "loss": 3 - 0.1 * i, "nll_max": 9.0, "learning_rate": 1e-3, "grad_norm": 1.0} for i in range(9)
  ]
  data = {"examples": 22970, "over_limit": 2323, "rows": 4945, "tokens": 309902, "learned": 173492}
  records[0] |= {f"data/{name}": value for name, value in data.items()} | {"data/packing_efficiency": 0.9792}
  for i, loss in ((2, 2.5), (4, 2.0), (8, 2.25)):
    records[i] |= {"eval/validation/loss": loss, "eval/validation/perplexity": float(np.exp(loss))}
  return records


def reward_model_run():
  records = [{"step": i, "loss": 0.6, "accuracy": 0.7, "margin": 0.5, "grad_norm": 1.0} for i in range(5)]
  records[0] |= {"data/comparisons": 3288, "data/pairs": 3288, "data/held_out": 347, "data/answer_too_long": 1903}
  for i, accuracy in ((0, 0.45), (4, 0.8)):
    found = interval("accuracy", accuracy)
    for order, name in enumerate(STRENGTHS):
      found |= interval(f"strength/{name}/accuracy", accuracy + 0.02 * order) | {f"strength/{name}/pairs": 10}
    found |= {"margin_mean": 0.4, "score_p05": -1.0, "score_p50": 0.1, "score_p95": 1.5, "log_loss": 0.5, "brier": 0.2}
    found |= {"ece": 0.03, "length_pearson": 0.5, "length_spearman": 0.6, "winner_longer": 0.778}
    records[i] |= {f"eval/heldout/{key}": value for key, value in found.items()} | {"eval/demonstrations/mean": 0.3}
  return records


def dpo_run():
  records = []
  for i in range(5):
    pair = {"reward/chosen": 0.1, "reward/rejected": -0.2, "reward/margin": 0.3, "reward/accuracy": 0.75}
    pair |= {"logprob/chosen": -2.0, "logprob/rejected": -4.0, "length/chosen": 10.0, "length/rejected": 5.0}
    pair |= {"logprob/chosen_moved": 1.0 * i, "logprob/rejected_moved": -2.0 * i}
    records.append({"step": i, "loss": 0.6} | pair)
    if i in (0, 4):
      records[i] |= {f"eval/preferences/{key}": value for key, value in pair.items()}
      records[i] |= interval("eval/preferences/reward/accuracy", 0.5 + 0.1 * i)
      records[i] |= interval("eval/heldout/avg@8", 0.4 + 0.1 * i) | {"eval/heldout/kl_to_reference": 0.25 * i}
  return records


def write(path, records):
  (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  return path


def sections(records):
  return dict(training_panels.sections(run_metrics.columns(records)))


def titles(panels):
  return [panel.title for panel in panels]


def curves(panels, title):
  (found,) = [panel for panel in panels if panel.title == title]
  return {curve.key: curve for curve in found.curves}


def test_supervised_loss_stands_beside_the_held_out_one():
  found = sections(sft_run())
  assert list(found) == ["Evaluation", "Optimisation"]
  assert titles(found["Evaluation"]) == ["Perplexity of held-out demonstrations"]
  assert list(curves(found["Optimisation"], "Loss")) == ["loss", "eval/validation/loss"]
  assert found["Optimisation"][0].unit == "nats per token"
  assert {"Learning rate", "Gradient norm"} <= set(titles(found["Optimisation"]))


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


def test_online_rounds_have_pairs_accuracy_and_tokens():
  sampled = {"pairs": 20, "accuracy/mean": 0.5, "reward/mean": 0.6, "reward/invalid": 1, "length/mean": 9.0}
  records = [record | sampled | {"sampling/tokens_generated": 1800} for record in dpo_run()]
  found = sections(records)
  assert "Pairs" in titles(found["Preferences"])
  assert titles(found["Training"]) == ["Training accuracy", "Reward", "Answer length"]
  assert all(panel.note == "" for panel in found["Training"])  # there is no dynamic sampling to speak of
  assert titles(found["Sampling"]) == ["Tokens", "Answers without a verdict"]


def test_components_of_sampled_rewards_leave_counts_out():
  records = [{"step": 0, "reward/mean": 1.0, "reward/correct": 0.5, "reward/accuracy": 0.5, "reward/invalid": 3}]
  panels = sections(records)["Training"]
  assert list(curves(panels, "Reward components")) == ["reward/correct", "reward/accuracy"]


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


def test_best_validation_loss_is_the_lowest():
  (table,) = headline.headlines(run_metrics.columns(sft_run()))
  assert (table.best_is, table.best, table.steps) == ("Lowest", (4, 2.0), (2, 8))


def test_of_equal_best_values_the_last_counts():
  records = [{"step": i, "eval/heldout/avg@8": value} for i, value in enumerate((0.5, 0.7, 0.7))]
  (table,) = headline.headlines(run_metrics.columns(records))
  assert table.best == (2, 0.7)


def test_page_says_what_the_data_were(tmp_path):
  page = report.write_report(write(tmp_path, sft_run())).read_text()
  assert "<b>22\u202f970 examples</b>" in page
  words = "4\u202f945 rows, 309\u202f902 tokens, 173\u202f492 learned tokens, rows 97.9 % full, over limit: 2\u202f323"
  assert words in page and "first, step 2" in page and "before, step" not in page
  page = report.write_report(write(tmp_path, reward_model_run())).read_text()
  assert "<b>3\u202f288 comparisons</b>" in page and "347 held out, answer too long: 1\u202f903" in page
  assert "On held-out comparisons, accuracy went from 0.450 to 0.800\n(+0.350) in 4 steps" in page


def test_pictures_become_part_of_the_page(tmp_path, monkeypatch):
  write(tmp_path, reward_model_run())
  matplotlib.figure.Figure(figsize=(1, 1)).savefig(tmp_path / "reliability.png")
  (tmp_path / "broken.png").write_bytes(b"GIF89a")
  page = report.write_report(tmp_path).read_text()
  (source,) = re.findall(r'<img src="data:image/png;base64,([^"]*)" alt="reliability">', page)
  assert base64.b64decode(source) == (tmp_path / "reliability.png").read_bytes()
  assert "broken.png is no PNG: it is left out." in page and 'href="#figures"' in page
  monkeypatch.setattr(report, "MAX_PICTURE_BYTES", 10)
  page = report.write_report(tmp_path).read_text()
  assert "<img" not in page and "more than 10: it is left out" in page and "#figures" not in page
