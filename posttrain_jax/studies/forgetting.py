"""Measures forgetting over learning rates and epochs: accuracy, perplexity on plain text, distinct-n.

One supervised run a learning rate, all from the same model on the same few demonstrations, each measured before its
first update and after the epochs that the config names: what is won on the task, what it costs on text of another kind,
and how varied samples still are. An epoch is as many whole batches as hold every row once.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from flax import nnx

from posttrain_jax import atomic_files
from posttrain_jax.assembly import plain_text
from posttrain_jax.assembly.judges import check_answer_style, judge_by_functions
from posttrain_jax.assembly.references import check_references
from posttrain_jax.data import arithmetic, demonstrations
from posttrain_jax.data.demonstrations import CAREFUL_CROWD
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.evaluation.variety import Variety
from posttrain_jax.learner.update import Diverged
from posttrain_jax.pipelines import supervised
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.studies.forgetting_figure import ForgettingCurve, plot_forgetting
from posttrain_jax.studies.forgetting_settings import HELD_OUT, ForgettingSettings
from posttrain_jax.types import Group

_RESULTS, _FIGURE = "forgetting.json", "forgetting.png"
_INTERVAL = ("", "_low", "_high")
_HEADLINE = ("accuracy", "perplexity", "distinct_2")


def study(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Makes the runs, or goes on with them, and draws what they say.

  Args:
    config: see `configs/tiny_forgetting.py`, which has every field.
    workdir: DIR; gets lr_<learning rate>/, each the workdir of a supervised run, warmup/ where there is one,
      forgetting.json and forgetting.png.

  Returns:
    A JSON object: accuracy, perplexity and distinct-2 before and after the last epoch of each run.

  Raises:
    InputError: if config or input is not fit for use, before anything is trained.
    Preempted: after SIGTERM and a checkpoint.
  """
  settings = parse(ForgettingSettings, config)
  with contextlib.ExitStack() as stack:
    start = MethodAssembly(settings, stack, warmup=settings.warmup)
    start.require_trained_policy()
    tokenizer, mesh = start.policy.tokenizer, start.mesh
    rows, start.digests["plain"] = plain_text.read_plain(settings.plain)
    plain = plain_text.lay_out_plain(settings.plain, rows, tokenizer, batch_size=settings.batch_size)
    variety = Variety(settings.samples, start.policy, rows, mesh, field=settings.plain.field, seed=settings.seed)
    check_answer_style(settings.rewards, settings.eval.answer_style)
    workers = start.workers(settings.rewards)
    judge = judge_by_functions(settings.rewards, workers, start.policy.tokenizer)
    study_digests = dict(start.digests)
    opened, preemption = start.open_workdir(workdir)
    directory = opened.path
    if not settings.demonstrations.path:
      settings = write_narrow(settings, directory)
    evaluator = Evaluator(settings.eval, start.policy, judge, seed=settings.seed, mesh=mesh)
    for each in evaluator.sets.values():
      check_references(workers, each.prompts)
    # Runs differ in the learning rate only, so they share one reading of the demonstrations.
    common, data = supervised.prepare(settings.run(settings.learning_rates[0]), start.policy, mesh, settings.seed)
    data = dataclasses.replace(data, validation=plain)
    epoch = math.ceil(data.batches.num_rows / settings.batch_size)
    steps = {number * epoch: number for number in (0, *settings.epochs)}

    def measure(params: nnx.State, version: int) -> tuple[dict[str, Any], Mapping[str, list[Group]]]:
      # Evaluations come at equal distances, the epochs asked for need not. No run goes on after an update that is left
      # out, so the version of the parameters is the step.
      if version not in steps:
        return {}, {}
      metrics, groups = evaluator(params, version)
      return metrics | {f"eval/samples/{name}": value for name, value in variety(params, version).items()}, groups

    start.finish(opened, preemption, save_model=False)
    results = []
    times = dataclasses.replace(common.eval, every=epoch * math.gcd(*settings.epochs))
    for rate in sorted(settings.learning_rates):
      path = directory / f"lr_{rate:g}"
      optimizer = dataclasses.replace(common.optimizer, learning_rate=rate)
      run = dataclasses.replace(common, steps=max(steps), eval=times, optimizer=optimizer)
      with Workdir.open(path, as_config(run), study_digests | data.digests | evaluator.digests):
        try:
          supervised.fit(run, start.policy, mesh, data, path, measure, preemption, seed=settings.seed)
          diverged = False
        except Diverged:
          diverged = True  # which is a result: the line ends there
      results.append({"learning_rate": rate, "diverged": diverged, "points": _points(settings, path, steps)})
  result = {"examples": data.batches.num_examples, "steps_per_epoch": epoch, "runs": results}
  atomic_files.write_text(directory / _RESULTS, json.dumps(result, indent=2) + "\n")
  plot_forgetting(directory / _FIGURE, [_curve(run) for run in results])
  return _headline(results) | {"figure": str(directory / _FIGURE)}


def write_narrow(settings: ForgettingSettings, directory: pathlib.Path) -> ForgettingSettings:
  """Writes what the procedural study trains and tests on.

  demonstrations.jsonl has careful answers, without a slip, to training problems of `narrow.difficulties`;
  held_out.jsonl has held-out problems of the same.

  Returns:
    The settings that name these files.
  """
  narrow = settings.narrow
  trained, tested = (
    arithmetic.problems(split, per_difficulty=count, seed=narrow.seed, difficulties=narrow.difficulties)
    for split, count in ((arithmetic.Split.TRAIN, narrow.examples), (arithmetic.Split.HELD_OUT, narrow.problems))
  )
  files = {
    directory / "demonstrations.jsonl": demonstrations.demonstrations(trained, crowd=CAREFUL_CROWD, seed=narrow.seed),
    directory / "held_out.jsonl": tested,
  }
  for path, rows in files.items():
    atomic_files.write_rows(path, rows)
  return settings.reading(*map(str, files))


def _points(settings: ForgettingSettings, path: pathlib.Path, steps: Mapping[int, int]) -> list[dict[str, Any]]:
  """Returns the measurements of a run at the epochs asked for; intervals are `_low` and `_high`."""
  sources = {"accuracy": f"{HELD_OUT}/avg@{settings.eval.sets[HELD_OUT].samples}", "greedy": f"{HELD_OUT}/greedy"}
  sources |= {"perplexity": "validation/perplexity"}
  sources |= {name: f"samples/{name}" for name in ("distinct_1", "distinct_2", "ead", "length")}
  points = []
  for record in read_metrics(path):
    if record["step"] in steps and f"eval/{sources['perplexity']}" in record:
      point = {"epoch": steps[record["step"]], "step": record["step"]}
      for name, source in sources.items():
        for end in _INTERVAL:
          if f"eval/{source}{end}" in record:
            point[name + end] = record[f"eval/{source}{end}"]
      points.append(point)
  return points


def _curve(run: Mapping[str, Any]) -> ForgettingCurve:
  def column(name: str, ends: Sequence[str] = ("",)) -> np.ndarray:
    # None stands for NaN: nothing could be judged, or a perplexity is beyond float64.
    rows = [[point[name + end] for end in ends] for point in run["points"]]
    return np.array(rows, np.float64).squeeze(1 if len(ends) == 1 else ())

  return ForgettingCurve(
    learning_rate=run["learning_rate"],
    epochs=column("epoch"),
    accuracy=column("accuracy", _INTERVAL),
    perplexity=column("perplexity"),
    distinct_2=column("distinct_2", _INTERVAL),
  )


def _headline(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the measurements before training, and the last point of each run."""
  before = runs[0]["points"][0]
  after = [{name: run["points"][-1][name] for name in ("epoch", *_HEADLINE)} for run in runs]
  return {
    **{f"{name}_before": before[name] for name in _HEADLINE},
    "runs": [{"learning_rate": run["learning_rate"], **last} for run, last in zip(runs, after)],
  }
