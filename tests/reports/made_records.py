"""Makes records of supervised, reward model and preference runs, as metrics.jsonl has them."""

import json

import numpy as np

from posttrain_jax.reports import run_metrics, training_panels

STRENGTHS = ("better", "negligibly", "significantly", "slightly")  # as in the journal: by name


def interval(key, value):
  return {key: value, f"{key}_low": value - 0.05, f"{key}_high": value + 0.05}


def sft_run():
  records = [
    {"step": i, "loss": 3 - 0.1 * i, "nll_max": 9.0, "learning_rate": 1e-3, "grad_norm": 1.0} for i in range(9)
  ]
  data = {"examples": 22970, "over_limit_dropped": 2323, "rows": 4945, "tokens": 309902, "learned": 173492}
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
  """Maps headings to panels of the report."""
  return dict(training_panels.sections(run_metrics.columns(records)))


def titles(panels):
  return [panel.title for panel in panels]


def curves(panels, title):
  """Maps columns to curves of the panel with a title."""
  (found,) = [panel for panel in panels if panel.title == title]
  return {curve.key: curve for curve in found.curves}
