"""Studies reward over-optimisation by best-of-n (Gao et al., arXiv:2210.10760).

It measures the gold reward of the answers that a proxy likes best, over √KL.

A synthetic gold reward (`rewards`) stands for people. It labels pairs of the policy's own answers, with noise; reward
models trained on few and on many such pairs are the proxies. Of held-out prompts many answers are drawn once, scored by
all, and every n is estimated from them (`studies.best_of_n`).

Every stage keeps its result in a file of DIR and is left out where that is there: warmup/, pairs.npz, samples.npz,
proxies/SIZE_REPEAT.npz. The study itself, overoptimization.json and .png, is made anew each time.

Deviations from the paper: the proxies start from the policy, and their data are samples of the same policy that
best-of-n draws from; small ones are trained for as many updates as large ones.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np
import rich.console

from posttrain_jax import atomic_files
from posttrain_jax.assembly.judges import judge_by_functions
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import parse
from posttrain_jax.studies import best_of_n, overoptimization_figure
from posttrain_jax.studies.overoptimization_parts import (
  Arrays,
  ProxyTrainer,
  StudyParts,
  draw_pairs,
  draw_samples,
  score,
)
from posttrain_jax.studies.overoptimization_settings import OveroptimizationSettings


def study(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Runs the study, or what of it is not there yet.

  Args:
    config: see `configs/tiny_overoptimization.py`, which has every field.
    workdir: DIR; gets config.json, the stages' files, overoptimization.json and overoptimization.png.

  Returns:
    The headline: gold reward of one sample and, by number of pairs, where it peaks and where it ends.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled.
    Preempted: after SIGTERM, at the end of a stage.
    Diverged: if too many updates of a proxy in a row were not finite.
  """
  settings = parse(OveroptimizationSettings, config)
  with contextlib.ExitStack() as stack:
    run = MethodAssembly(settings, stack, warmup=settings.warmup)
    length = settings.rollout.max_prompt_length
    prompts = run.prompts(settings.prompts, max_prompt_length=length)
    held_out = run.prompts(settings.held_out, max_prompt_length=length, where="held_out")
    workers = run.workers(settings.rewards)
    judge = judge_by_functions(settings.rewards, workers, run.policy.tokenizer)
    run.check_references(workers)
    run.require_trained_policy()

    directory, preemption = run.open(workdir, save_model=False)
    path = directory.path
    parts = StudyParts(settings, run.policy, run.mesh, judge, prompts, held_out)
    keep = _Keeper(preemption)
    pairs = keep(path / "pairs.npz", lambda: draw_pairs(parts))
    samples = keep(path / "samples.npz", lambda: draw_samples(parts))
    trainer = None
    scores: dict[int, list[np.ndarray]] = {}
    (path / "proxies").mkdir(exist_ok=True)
    for size in settings.proxy.sizes:
      for repeat in range(settings.proxy.repeats):

        def proxy(size=size, repeat=repeat) -> Arrays:
          nonlocal trainer
          trainer = trainer or ProxyTrainer(parts)
          return {"scores": score(parts, trainer(pairs, size, repeat), samples)}

        scores.setdefault(size, []).append(keep(path / "proxies" / f"{size}_{repeat}.npz", proxy)["scores"])
  found, curves = _study(settings, pairs, samples["gold"], scores)
  atomic_files.write_text(path / "overoptimization.json", json.dumps(found, indent=2) + "\n")
  overoptimization_figure.draw(path / "overoptimization.png", settings.best_of_n.n, curves)
  names = ("peak_n", "gold_peak", "gold_last", "drop", "turned_down")
  return {
    "gold_1": found["gold_1"],
    "last_n": settings.best_of_n.n[-1],
    "proxies": {size: {name: each[name] for name in names} for size, each in found["proxies"].items()},
  }


class _Keeper:
  """Keeps the result of each stage, and ends the run after a stage if SIGTERM arrived."""

  def __init__(self, preemption: Preemption):
    self._preemption, self._console = preemption, rich.console.Console(stderr=True)

  def __call__(self, file: pathlib.Path, make: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays of a file; if there is none, makes them and writes it."""
    if not file.exists():
      content = io.BytesIO()
      np.savez_compressed(content, **make())
      atomic_files.write_bytes(file, content.getvalue())
      self._console.print(f"made {file.parent.name}/{file.name}", highlight=False, soft_wrap=True)
      if self._preemption.requested:
        raise Preempted(f"preempted after {file.name}, which is saved")
    with np.load(file, allow_pickle=False) as arrays:
      return dict(arrays)


def _study(settings, pairs: Arrays, gold: np.ndarray, scores: dict[int, list[np.ndarray]]):
  """Computes the numbers for the JSON file, and the curves for the figure.

  Curves of a size are means over its repeats; intervals are over prompts, of these reward models.
  """
  ns, seed = list(settings.best_of_n.n), stream_seed(settings.seed, Stream.EVALUATION)

  def interval(per_prompt: np.ndarray) -> best_of_n.BestOfNCurve:
    return best_of_n.curve(per_prompt, seed=seed, resamples=settings.best_of_n.resamples)

  def measured(per_prompt: np.ndarray) -> best_of_n.BestOfNCurve:
    """Returns a curve whose intervals are of the gain over one sample.

    So they are free of the prompts' difficulty.
    """
    gain, first = interval(per_prompt - per_prompt[:, :1]), per_prompt[:, 0].mean()
    return best_of_n.BestOfNCurve(first + gain.mean, first + gain.low, first + gain.high)

  ceiling = measured(best_of_n.expected_best(gold, gold, ns))
  curves, proxies = [], {}
  for size, repeats in scores.items():
    by_gold = np.mean([best_of_n.expected_best(each, gold, ns) for each in repeats], axis=0)
    scaled = [best_of_n.on_scale_of(each.astype(np.float64), gold) for each in repeats]
    by_proxy = np.mean([best_of_n.expected_best(each, each, ns) for each in scaled], axis=0)
    found = overoptimization_figure.ProxyCurves(
      pairs=size,
      gold=measured(by_gold),
      proxy=measured(by_proxy),
      fit=best_of_n.fit(by_gold, ns, seed=seed, resamples=settings.best_of_n.resamples),
    )
    curves.append(found)
    peak = int(np.argmax(found.gold.mean))
    # Measured where this very curve is highest, so that chance adds a little to it.
    drop = interval(by_gold[:, [peak]] - by_gold[:, [-1]])
    proxies[str(size)] = {
      "peak_n": ns[peak],
      "gold_peak": float(found.gold.mean[peak]),
      "gold_last": float(found.gold.mean[-1]),
      "drop": float(drop.mean[0]),
      "drop_interval": [float(drop.low[0]), float(drop.high[0])],
      "turned_down": bool(drop.low[0] > 0),
      "order_accuracy": float(np.mean([best_of_n.order_accuracy(each, gold) for each in repeats])),
      "fit": dataclasses.asdict(found.fit),
      "gold": _lists(found.gold),
      "proxy": _lists(found.proxy),
    }
  one = interval(gold.mean(axis=1, keepdims=True))
  result = {
    "n": ns,
    "sqrt_kl": np.sqrt(best_of_n.kl_bound(np.array(ns))).tolist(),
    "prompts": len(gold),
    "samples": gold.shape[1],
    "gold_1": float(one.mean[0]),
    "gold_1_interval": [float(one.low[0]), float(one.high[0])],
    "gold_best": _lists(ceiling),
    "labels_flipped": float(pairs["flipped"].mean()),
    "pairs_tied": int(pairs["ties"]),
    "proxies": proxies,
  }
  return result, overoptimization_figure.Study(ceiling, curves)


def _lists(curve: best_of_n.BestOfNCurve) -> dict[str, list[float]]:
  return {name: value.tolist() for name, value in dataclasses.asdict(curve).items()}
