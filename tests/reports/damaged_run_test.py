"""Tests that runs with damaged, missing or strange files still get a page, which says so."""

import base64
import json
import re

import matplotlib.figure
import numpy as np
import pytest

from posttrain_jax.reports import report
from posttrain_jax.types import InputError
from tests.reports import made_records
from tests.reports.dapo_run import checked, group, render, step_metrics


def test_sampled_text_is_escaped_and_clipped(tmp_path):
  (tmp_path / "rollouts").mkdir()
  record = group(np.random.default_rng(0), 0, "trained")
  record["prompt"] = "<img src=x onerror=alert(1)> & {{ 7 * 7 }}"
  record["samples"][0] |= {"text": "</pre><script>alert(1)</script>\ud800", "finish_reason": 1}
  record["samples"][1]["text"] = "BEGIN" + "x" * 50_000 + "END"
  (tmp_path / "rollouts" / "step_000003.jsonl").write_text(json.dumps(record) + "\nnot json\n")
  page = render(tmp_path)
  assert "<script" not in page and "<img" not in page and "{{ 7 * 7 }}" in page
  assert "&lt;script&gt;alert(1)" in page and 'class="cut">length' in page
  assert "BEGINx" in page and "xEND" in page and "47008 characters left out" in page and "x" * 3001 not in page
  assert "step_000003.jsonl, line 2 is no record" in page
  checked(page)


@pytest.mark.parametrize(
  "content, message",
  [
    (None, "metrics.jsonl is missing"),
    ("", "metrics.jsonl has no complete step"),
    ('{"step": 0, "lo', "metrics.jsonl, line 1 is cut short"),
    ('[1]\n{"step": 1, "loss": 0.5}\n', "metrics.jsonl, line 1 is no record of a step"),
    ('{"step": 0, "loss": 1.0}\n{"step": 1, "lo', "metrics.jsonl, line 2 is cut short"),
  ],
)
def test_damaged_metrics_are_said_on_the_page(tmp_path, content, message):
  if content is not None:
    (tmp_path / "metrics.jsonl").write_text(content)
  page = render(tmp_path)
  assert message in page and "config.json is missing" in page
  assert (">Loss<" in page) == bool(content and '"loss"' in content)
  checked(page)


def test_damaged_config_and_rollouts_do_not_stop_the_report(tmp_path):
  (tmp_path / "config.json").write_text("{")
  (tmp_path / "rollouts").mkdir()
  (tmp_path / "rollouts" / "step_000001.jsonl").write_text('{"verdict": "trained", "samples": [{}]}\n{"verdict": "tr')
  page = render(tmp_path)
  assert "config.json cannot be read" in page and "line 2 is no record of a group" in page
  checked(page)


@pytest.mark.parametrize("seed", range(2))
def test_any_subset_of_keys_gives_a_page(tmp_path, seed):
  rng = np.random.default_rng(seed)
  records = [step_metrics(rng, step, 3) for step in range(3)]
  kept = {key for key in records[0] if rng.random() < 0.5} | {"step"}
  lines = [
    json.dumps({k: None if rng.random() < 0.3 and k != "step" else v for k, v in r.items() if k in kept})
    for r in records
  ]
  (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
  checked(render(tmp_path))


def test_workdir_must_exist(tmp_path):
  with pytest.raises(InputError, match="found no directory"):
    report.write_report(tmp_path / "absent")


def test_pictures_become_part_of_the_page(tmp_path, monkeypatch):
  made_records.write(tmp_path, made_records.reward_model_run())
  matplotlib.figure.Figure(figsize=(1, 1)).savefig(tmp_path / "reliability.png")
  (tmp_path / "broken.png").write_bytes(b"GIF89a")
  page = report.write_report(tmp_path).read_text()
  (source,) = re.findall(r'<img src="data:image/png;base64,([^"]*)" alt="reliability">', page)
  assert base64.b64decode(source) == (tmp_path / "reliability.png").read_bytes()
  assert "broken.png is no PNG: it is left out." in page and 'href="#figures"' in page
  monkeypatch.setattr(report, "MAX_PICTURE_BYTES", 10)
  page = report.write_report(tmp_path).read_text()
  assert "<img" not in page and "more than 10: it is left out" in page and "#figures" not in page
