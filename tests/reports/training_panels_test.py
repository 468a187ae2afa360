from tests.reports.made_records import curves, dpo_run, sections, sft_run, titles


def test_supervised_loss_stands_beside_the_held_out_one():
  found = sections(sft_run())
  assert list(found) == ["Evaluation", "Optimisation"]
  assert titles(found["Evaluation"]) == ["Perplexity of held-out demonstrations"]
  assert list(curves(found["Optimisation"], "Loss")) == ["loss", "eval/validation/loss"]
  assert found["Optimisation"][0].unit == "nats per token"
  assert {"Learning rate", "Gradient norm"} <= set(titles(found["Optimisation"]))


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
