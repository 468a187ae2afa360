import base64
import html.parser
import json
import re
import time

import matplotlib.figure
import numpy as np
import pytest

from posttrain_jax.reports import report
from posttrain_jax.types import InputError
from tests.reports import made_records

GROUPS, SAMPLES = 16, 8
CONFIG = {
  "seed": 0,
  "steps": 200,
  "model": {"layers": 2, "width": 96, "heads": 4, "vocab_size": 24, "compute_dtype": "float32"},
  "mesh": {"data": 1, "fsdp": 1, "tensor": 1},
  "rollout": {"temperature": 1.0, "top_p": 1.0, "slots": 64, "max_new_tokens": 24, "admission": "drain"},
  "loss": {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 10.0, "aggregate": "token_mean", "kl_coefficient": 0.0},
  "rewards": [{"name": "correct", "weight": 1.0}, {"name": "format", "weight": 0.2}],
  "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.1, "warm_up_updates": 10, "max_grad_norm": 1.0},
  "eval": {"every": 10, "samples": 8},
  "checkpoint": {"every": 50, "keep": 2},
  "prompts": {"path": None, "digest": "sha256:5f0c…"},
}


def evaluation(rng, progress):
  """Makes held-out metrics of a run that learns."""
  accuracy = 0.44 + 0.31 * (1 - np.exp(-3 * progress)) + rng.normal(0, 0.006)
  metrics = {}
  for name, value in (("avg@8", accuracy), ("maj@8", accuracy + 0.08), ("pass@8", 0.9), ("greedy", accuracy + 0.05)):
    metrics |= {name: value, f"{name}_low": value - 0.035, f"{name}_high": value + 0.035}
  for level, bonus in ((1, 0.2), (2, 0.05), (3, -0.25)):
    metrics[f"difficulty/{level}/avg@8"] = accuracy + bonus * (1 - 0.5 * progress)
  metrics |= {"length": 9 + 5 * progress, "truncated": 0.02 + 0.02 * progress, "invalid": 0}
  return {f"eval/heldout/{name}": value for name, value in metrics.items()}


def step_metrics(rng, step, steps):
  p = step / steps
  right, wrong = rng.binomial(GROUPS, 0.15 + 0.35 * p), rng.binomial(GROUPS, 0.35 - 0.25 * p)
  generated = int((right + wrong + GROUPS) * SAMPLES * (10 + 5 * p))
  accuracy = np.clip(0.45 + 0.25 * p + rng.normal(0, 0.05), 0, 1)
  metrics = {
    "step": step,
    "updates": 2 * step,
    "loss": rng.normal(0, 0.01),
    "grad_norm": 0.4 + rng.gamma(2, 0.1),
    "entropy": 0.9 * np.exp(-1.5 * p) + 0.15 + rng.normal(0, 0.01),
    "clip/low": rng.gamma(2, 0.0006),
    "clip/high": rng.gamma(2, 0.0003),
    "clip/dual": 0.0,
    "kl/k1_sampler": rng.normal(0, 2e-4),
    "kl/k3_sampler": rng.gamma(2, 2e-4),
    "mismatch/max_abs_logprob": rng.gamma(3, 1e-5),
    "mismatch/mean_abs_logprob": rng.gamma(3, 5e-7),
    "ratio/max": 1 + rng.gamma(2, 0.1),
    "learning_rate": min(1, (step + 1) / 10) * 1e-3,
    "skipped_updates": 0,
    "reward/mean": accuracy + 0.18,
    "reward/correct": accuracy,
    "reward/format": 0.9 + 0.1 * p,
    "reward/overlong": -0.05 * p,
    "reward/invalid": 0,
    "accuracy/mean": accuracy,
    "accuracy/trained": np.clip(0.5 + rng.normal(0, 0.03), 0, 1),
    "length/mean": 10 + 5 * p + rng.normal(0, 0.3),
    "length/trained": 10.4 + 5 * p + rng.normal(0, 0.3),
    "length/max": 24,
    "truncated/share": 0.02 + rng.gamma(2, 0.004),
    "truncated/trained_share": 0.02 + rng.gamma(2, 0.004),
    "sampling/informative_share": GROUPS / (GROUPS + right + wrong),
    "sampling/prompts_drawn": GROUPS + right + wrong,
    "sampling/groups_trained": GROUPS,
    "sampling/dropped_all_right": int(right),
    "sampling/dropped_all_wrong": int(wrong),
    "sampling/dropped_invalid": int(rng.random() < 0.1),
    "sampling/carried": int(rng.integers(0, 5)),
    "sampling/tokens_generated": generated,
    "sampling/tokens_trained": int(GROUPS * SAMPLES * (10 + 5 * p)),
    "sampling/generated_per_trained": 1 + (right + wrong) / GROUPS,
    "sampling/staleness_mean": rng.random() * 0.3,
    "sampling/staleness_max": int(rng.integers(0, 3)),
    "sampling/idle_share": 0.1 + 0.05 * rng.random(),
    "time/rollout": 0.45 + rng.gamma(2, 0.03),
    "time/reward": 0.02,
    "time/train": 0.4 + rng.gamma(2, 0.02),
    "time/handover": 0.01,
  }
  if step % 10 == 0 or step == steps:
    metrics |= evaluation(rng, p) | {"time/eval": 1.3}
  metrics["time/total"] = sum(value for key, value in metrics.items() if key.startswith("time/"))
  return {key: value.item() if isinstance(value, np.generic) else value for key, value in metrics.items()}


def group(rng, index, verdict):
  a, b = rng.integers(2, 10, 2)
  right = {"all_right": 1.0, "all_wrong": 0.0}.get(verdict, 0.5)
  accuracy = (rng.random(SAMPLES) < right).astype(float)
  if verdict == "trained":
    accuracy[[0, 1, 3]] = 0, 1, 0
  advantage = (accuracy - accuracy.mean()) / (accuracy.std() or 1)
  samples = []
  for j in range(SAMPLES):
    value = a * b if accuracy[j] else a * b + int(rng.integers(1, 5))
    cut = j == 3 and not accuracy[j]
    text = f"{a} groups of {b}: " + " + ".join([str(b)] * a) + f"\nAnswer: {value}"
    invalid = verdict == "invalid" and j == 1
    components = {"correct": None if invalid else accuracy[j], "format": 1.0, "overlong": -0.25 * cut}
    samples.append(
      {
        "text": text[: len(text) // 2] if cut else text,
        "length": 24 if cut else len(text) // 2,
        "finish_reason": "length" if cut else "eos",
        "accuracy": None if invalid else accuracy[j],
        "reward": None if invalid else accuracy[j] + 0.2 - 0.25 * cut,
        "components": components,
        "valid": not invalid,
        "advantage": advantage[j] if verdict == "trained" else None,
      }
    )
  record = {"prompt": f"What is {a} times {b}?\n", "prompt_index": index, "answer": str(a * b), "verdict": verdict}
  return record | {"accepted": verdict == "trained", "samples": samples}


def write_run(path, steps=200):
  """Makes the workdir of a finished run."""
  rng = np.random.default_rng(0)
  (path / "rollouts").mkdir(parents=True)
  (path / "config.json").write_text(json.dumps(CONFIG))
  records = [step_metrics(rng, step, steps) for step in range(steps + 1)]
  (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  for step in range(1, steps + 1, 20):
    verdicts = rng.choice(
      ["trained", "all_right", "all_wrong", "invalid", "carried"], 40, p=[0.5, 0.2, 0.15, 0.1, 0.05]
    )
    lines = [json.dumps({"step": step} | group(rng, index, str(v))) + "\n" for index, v in enumerate(verdicts)]
    (path / "rollouts" / f"step_{step:06d}.jsonl").write_text("".join(lines))
  (path / "warmup").mkdir()
  with open(path / "warmup" / "metrics.jsonl", "w") as file:
    for step in range(0, 501, 5):
      record = {"step": step, "loss": 0.6 + 2.4 * np.exp(-step / 60)}
      record["time/total"] = 0.6
      if step % 50 == 0:
        record["eval/heldout/avg@8"] = 0.44 * (1 - np.exp(-step / 80)) + rng.normal(0, 0.004)
      file.write(json.dumps(record) + "\n")
  return path


def render(path):
  return report.write_report(path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return write_run(tmp_path_factory.mktemp("report") / "dapo_seed0")


@pytest.fixture(scope="module")
def page(run):
  return render(run)


class Checker(html.parser.HTMLParser):
  """Collects what refers elsewhere, headings, ids, and tags that are not closed in order."""

  VOID = ("meta", "br", "link", "img", "input")

  def __init__(self):
    super().__init__()
    self.open, self.references, self.titles, self.ids = [], [], [], []

  def handle_starttag(self, tag, attributes):
    if tag not in self.VOID:
      self.open.append(tag)
    self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
    self.ids += [value for name, value in attributes if name == "id"]

  def handle_startendtag(self, tag, attributes):
    self.handle_starttag(tag, attributes)
    if tag not in self.VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open[-2:] == ["figcaption", "b"]:
      self.titles.append(data)


def checked(page):
  checker = Checker()
  checker.feed(page)
  assert not checker.open
  return checker


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


@pytest.mark.parametrize("seed", range(5))
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


def test_one_evaluation_claims_no_change(tmp_path):
  (tmp_path / "metrics.jsonl").write_text(json.dumps(step_metrics(np.random.default_rng(0), 0, 10)) + "\n")
  page = render(tmp_path)
  assert "there is no later evaluation yet" in page and "after, step" not in page


def test_many_steps_are_averaged(tmp_path):
  (tmp_path / "metrics.jsonl").write_text("".join(f'{{"step": {i}, "loss": {i % 2}}}\n' for i in range(6000)))
  page = render(tmp_path)
  assert "Each point is the mean of 10 steps" in page and len(page) < 100_000


def test_workdir_must_exist(tmp_path):
  with pytest.raises(InputError, match="found no directory"):
    report.write_report(tmp_path / "absent")


def test_best_evaluation_is_named_when_it_is_not_the_last(tmp_path):
  values = [0.4, 0.7, 0.6]
  lines = [json.dumps({"step": 10 * i, "eval/easy/avg@4": value}) + "\n" for i, value in enumerate(values)]
  (tmp_path / "metrics.jsonl").write_text("".join(lines))
  page = render(tmp_path)
  assert "On easy, avg@4 went from 0.400 to 0.600\n(+0.200) in 20 steps" in page
  assert "Highest avg@4: 0.700 at step 10" in page


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


def test_page_says_what_the_data_were(tmp_path):
  page = report.write_report(made_records.write(tmp_path, made_records.sft_run())).read_text()
  assert "<b>22\u202f970 examples</b>" in page
  words = "4\u202f945 rows, 309\u202f902 tokens, 173\u202f492 learned tokens, rows 97.9 % full, "
  words += "2\u202f323 left out: over limit"
  assert words in page and "first, step 2" in page and "before, step" not in page
  page = report.write_report(made_records.write(tmp_path, made_records.reward_model_run())).read_text()
  assert "<b>3\u202f288 comparisons</b>" in page and "347 held out, 1\u202f903 left out: answer too long" in page
  assert "On held-out comparisons, accuracy went from 0.450 to 0.800\n(+0.350) in 4 steps" in page


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
