"""Makes the workdir of a DAPO run that has finished, and checks pages."""

import html.parser
import json

import numpy as np

from posttrain_jax.reports import report

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
