"""Tests the page of a whole run: it stands alone, has every panel, and says what the run reached."""

import json
import re
import time

import numpy as np
import pytest

from posttrain_jax.reports import report
from tests.reports.dapo_run import checked, render, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return write_run(tmp_path_factory.mktemp("report") / "dapo_seed0")


@pytest.fixture(scope="module")
def page(run):
  return render(run)


def test_page_stands_alone_and_is_well_formed(page):
  found = checked(page)
  assert found.references and all(reference.startswith("#") for reference in found.references)
  assert {reference[1:] for reference in found.references} <= set(found.ids)
  assert len(found.ids) == len(set(found.ids))
  assert "<script" not in page and "@import" not in page and not re.search(r"url\((?!#)", page)
  assert "DejaVu Sans'" not in page and "#0a0b" not in page and "#0a0c" not in page  # all colours are the page's


def test_every_family_has_its_panel(page):
  titles = set(checked(page).titles)
  assert titles >= {
    *("heldout: accuracy", "heldout: avg@8 by difficulty", "Training accuracy", "Reward", "Reward components"),
    *("Entropy", "Answer length", "Truncated answers", "Informative groups", "Cost of dynamic sampling"),
    *("What dynamic sampling kept and dropped", "Clipped tokens", "KL to the sampler", "Gradient norm", "Loss"),
    *("Time per step", "Warm-up: heldout: accuracy", "Warm-up loss", "Engine mismatch", "Staleness"),
  }
  assert "KL to the reference" not in titles  # the run has none


def test_headline_is_the_first_and_the_last_evaluation(run, page):
  records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  first, last = records[0], records[-1]
  for key in ("avg@8", "greedy", "maj@8", "pass@8"):
    for record in (first, last):
      mean, low, high = (record[f"eval/heldout/{key}{end}"] for end in ("", "_low", "_high"))
      assert f"{mean:.3f} <small>[{low:.3f}, {high:.3f}]</small>" in page
  change = last["eval/heldout/avg@8"] - first["eval/heldout/avg@8"]
  assert f"+{change:.3f}" in page and "in 200 steps" in page
  seconds = sum(record["time/total"] for record in records)
  assert f"{seconds:.0f} s" in page and "61 s of warm-up" in page


def test_warm_up_plateau_is_the_mean_of_its_last_quarter(run, page):
  records = [json.loads(line) for line in (run / "warmup" / "metrics.jsonl").read_text().splitlines()]
  values = [record["eval/heldout/avg@8"] for record in records if "eval/heldout/avg@8" in record]
  assert len(values) == 11  # so the last quarter is two
  assert f"<b>{np.mean(values[-2:]):.3f}</b>" in page and "warm-up steps 450–500" in page


def test_samples_show_rewards_and_what_was_dropped(page):
  assert re.findall(r"<h3>Step (\d+)</h3>", page) == ["1", "101", "181"]
  for text in ("trained on", "dropped: all right", "dropped: all wrong", "dropped: invalid", "▲ +", "▼ −"):
    assert text in page
  assert 'class="cut">length' in page and 'title="no verdict">?' in page


def test_config_is_shown_by_dotted_field(page):
  assert "<dt>loss.clip_high</dt><dd>0.28</dd>" in page and "<dt>prompts.path</dt><dd>null</dd>" in page


def test_two_hundred_steps_take_seconds(run):
  start = time.process_time()
  report.write_report(run)
  assert time.process_time() - start < 5


def luminance(color):
  channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
  linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
  return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_the_page(page, scheme):
  """Checks the contrast by WCAG 2.1: 3 for lines and areas, 4.5 for text."""
  colors = dict(re.findall(r"--(\w+): (#\w{6})", re.findall(r":root \{(.*?)\n *\}", page, re.DOTALL)[scheme]))
  ground = luminance(colors["page"])
  for name, color in colors.items():
    low, high = sorted((luminance(color), ground))
    needed = 4.5 if name in ("text", "ink", "accent") else 3.0 if re.fullmatch(r"c\d", name) else 0.0
    assert (high + 0.05) / (low + 0.05) >= needed, name
  assert len([name for name in colors if re.fullmatch(r"c\d", name)]) == 8
