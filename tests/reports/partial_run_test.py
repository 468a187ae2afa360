"""Tests what the pages of short runs, and of other methods than DAPO, say and leave out."""

import json

import numpy as np

from posttrain_jax.reports import report
from tests.reports import made_records
from tests.reports.dapo_run import checked, render, step_metrics


def test_page_says_what_the_data_were(tmp_path):
  page = report.write_report(made_records.write(tmp_path, made_records.sft_run())).read_text()
  assert "<b>22\u202f970 examples</b>" in page
  words = "4\u202f945 rows, 309\u202f902 tokens, 173\u202f492 learned tokens, rows 97.9 % full, "
  words += "2\u202f323 left out: over limit"
  assert words in page and "first, step 2" in page and "before, step" not in page
  page = report.write_report(made_records.write(tmp_path, made_records.reward_model_run())).read_text()
  assert "<b>3\u202f288 comparisons</b>" in page and "347 held out, 1\u202f903 left out: answer too long" in page
  assert "On held-out comparisons, accuracy went from 0.450 to 0.800\n(+0.350) in 4 steps" in page


def test_panels_that_are_zero_are_folded_away(tmp_path):
  records = [
    {"step": i, "skipped_updates": 0, "grad_norm": 1.0, "kl/k3_sampler": -7.88e-8 * i, "clip/low": 0.0}
    for i in range(5)
  ]
  page = report.write_report(made_records.write(tmp_path, records)).read_text()
  shown, folded = page.split('<details class="group"><summary class="quiet">')
  assert "0 throughout: Clipped tokens, KL to the sampler, Skipped updates</summary>" in folded
  assert "<b>Gradient norm</b>" in shown and "<b>Skipped updates</b>" not in shown and "7.88" not in page
  checked(page)


def test_starts_are_shown_and_each_is_whole(tmp_path):
  made_records.write(tmp_path, made_records.sft_run())
  start = {"date": "2026-11-28T09:22:04+00:00", "command": "python -m experiments.sft --workdir=<a>", "commit": "abc+"}
  start |= {"versions": {"python": "3.11.2", "jax": "0.8.1"}, "devices": "8 × TPU v4"}
  page = report.write_report(tmp_path).read_text()
  assert 'id="run"' not in page  # an old run has no record of its starts
  (tmp_path / "starts.jsonl").write_text(json.dumps(start) + "\n" + json.dumps(start | {"commit": ""}) + "\n")
  page = report.write_report(tmp_path).read_text()
  assert "2026-11-28 09:22:04 UTC · 8 × TPU v4 · went on once" in page
  assert "<code>python -m experiments.sft --workdir=&lt;a&gt;</code>" in page and "python 3.11.2, jax 0.8.1" in page
  assert "(with changes that are not committed)" in page and "not in a checkout" in page
  checked(page)
  (tmp_path / "starts.jsonl").write_text("{}\n")
  checked(report.write_report(tmp_path).read_text())


def test_evaluated_and_scored_answers_are_shown(tmp_path):
  made_records.write(tmp_path, made_records.reward_model_run())
  (tmp_path / "rollouts").mkdir()
  sample = {"text": "4", "length": 2, "accuracy": 1.0, "reward": 1.5, "components": {"rank": 1}}
  record = {"step": 4, "set": "heldout", "prompt": "2+2", "answer": None, "verdict": "scored", "samples": [sample]}
  path = tmp_path / "rollouts" / "step_000004.jsonl"
  path.write_text(json.dumps(record) + "\n")
  page = report.write_report(tmp_path).read_text()
  assert "scored: heldout" in page and "1 of 1 in the right order" in page and 'data-name="rank">1<' in page
  assert "Advantage" not in page and "Ended by" not in page and "Reference" not in page
  sample |= {"finish_reason": "eos", "components": {}}
  path.write_text(json.dumps(record | {"verdict": "evaluated", "answer": "4"}) + "\n")
  page = report.write_report(tmp_path).read_text()
  assert "evaluation: heldout" in page and "1 of 1 right" in page and "Reference" in page and "Advantage" not in page
  checked(page)


def test_one_evaluation_claims_no_change(tmp_path):
  (tmp_path / "metrics.jsonl").write_text(json.dumps(step_metrics(np.random.default_rng(0), 0, 10)) + "\n")
  page = render(tmp_path)
  assert "there is no later evaluation yet" in page and "after, step" not in page


def test_many_steps_are_averaged(tmp_path):
  (tmp_path / "metrics.jsonl").write_text("".join(f'{{"step": {i}, "loss": {i % 2}}}\n' for i in range(6000)))
  page = render(tmp_path)
  assert "Each point is the mean of 10 steps" in page and len(page) < 100_000


def test_best_evaluation_is_named_when_it_is_not_the_last(tmp_path):
  values = [0.4, 0.7, 0.6]
  lines = [json.dumps({"step": 10 * i, "eval/easy/avg@4": value}) + "\n" for i, value in enumerate(values)]
  (tmp_path / "metrics.jsonl").write_text("".join(lines))
  page = render(tmp_path)
  assert "On easy, avg@4 went from 0.400 to 0.600\n(+0.200) in 20 steps" in page
  assert "Highest avg@4: 0.700 at step 10" in page
