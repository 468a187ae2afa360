"""Makes runs of an ablation without training, as metrics.jsonl has them."""

import json

import numpy as np

PROBLEMS = 20


def write_run(path, *, end, seed, tokens=1000, steps=12, **changes):
  """Makes a run whose accuracy rises linearly from .2 to `end`; returns its directory.

  Args:
    path: its workdir.
    end: accuracy after the last step.
    seed: of the noise between problems.
    tokens: generated in each step; None for a supervised run.
    steps: evaluated at every second one.
    **changes: metrics of every step.
  """
  path.mkdir(parents=True, exist_ok=True)
  effect = np.random.default_rng(seed).normal(0, 0.05, size=PROBLEMS)
  records = []
  for step in range(steps + 1):
    record = {"step": step, "updates": 4 * step, "time/total": 9.0}
    if step:
      record |= {"time/train": 50.0 if step == 1 else 0.5, "entropy": 1.0 - 0.6 * step / steps, "clip/high": 0.01}
      record |= {"length/mean": 10.0, "length/cv": 0.6, "truncated/share": 0.2, "truncated/trained_share": 0.2}
      record |= {"sampling/informative_share": 0.5, "clip/low": 0.002, "sampling/generated_per_trained": 2.0}
      record |= {} if tokens is None else {"sampling/tokens_generated": tokens}
      record |= changes
    if step % 2 == 0:
      mean = 0.2 + (end - 0.2) * step / steps
      record["eval/heldout/per_problem/avg@8"] = np.clip(mean + effect, 0, 1).tolist()
      record["eval/heldout/per_problem/greedy"] = [float(i < mean * PROBLEMS) for i in range(PROBLEMS)]
      record["eval/sft_only/per_problem/avg@4"] = [mean] * 5
    records.append(record)
  (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  return path
