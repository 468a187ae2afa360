"""Forgetting, measured: learning rate × epochs, with accuracy, perplexity on plain text and distinct-n.

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
from posttrain_jax.assembly.judges import check_answer_style, make_judge, make_workers
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.assembly.model import load_policy
from posttrain_jax.data import arithmetic, demonstrations
from posttrain_jax.data.demonstrations import Crowd
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.evaluation.variety import Variety
from posttrain_jax.learner.update import Diverged
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.pipelines import sft
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.studies.forgetting_figure import Curve, plot_forgetting
from posttrain_jax.types import Group, InputError

HELD_OUT = "heldout"  # the evaluation set whose accuracy counts
_RESULTS, _FIGURE = "forgetting.json", "forgetting.png"
# Fields of the study that its runs do not have, or have otherwise.
_OF_THE_STUDY = ("learning_rates", "epochs", "narrow", "plain", "samples", "warmup", "rewards")
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
    InputError: bad configuration or input, before anything is trained.
    Preempted: after SIGTERM and a checkpoint.
  """
  _check(config)
  with contextlib.ExitStack() as stack:
    policy, mesh = load_policy(config.model), make_mesh(config.mesh)
    warmup = sft.prepare_warm_up(config, policy, mesh)
    if policy.params is None and warmup is None:
      raise InputError("model.path: empty, and warmup has no steps; expected a model that can forget something")
    rows, digest = plain_text.read_plain(config.plain)
    plain = plain_text.lay_out(config.plain, rows, policy.tokenizer, batch_size=config.batch_size)
    variety = Variety(config.samples, policy, rows, mesh, field=config.plain.field, seed=config.seed)
    check_answer_style(config)
    workers = stack.enter_context(make_workers(config.rewards))
    judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
    digests = {"plain": digest, **policy_digests(config.model.path, policy.tokenizer)}
    if warmup is not None:
      digests["warmup"] = warmup.digests["demonstrations"]
    directory = stack.enter_context(Workdir.open(workdir, config, digests)).path
    if not config.demonstrations.path:
      write_narrow(config, directory)
    evaluator = Evaluator(config.eval, policy, judge, seed=config.seed, mesh=mesh)
    runs = [_run_config(config, rate) for rate in sorted(config.learning_rates)]
    data = dataclasses.replace([sft.prepare(run, policy, mesh, config.seed) for run in runs][-1], validation=plain)
    epoch = math.ceil(data.batches.num_rows / config.batch_size)
    steps = {number * epoch: number for number in (0, *config.epochs)}

    def measure(params: nnx.State, version: int) -> tuple[dict[str, Any], Mapping[str, list[Group]]]:
      # Evaluations come at equal distances, the epochs asked for need not. No run goes on after an update that is left
      # out, so the version of the parameters is the step.
      if version not in steps:
        return {}, {}
      metrics, groups = evaluator(params, version)
      return metrics | {f"eval/samples/{name}": value for name, value in variety(params, version).items()}, groups

    preemption = stack.enter_context(Preemption())
    policy = sft.warm_up(config, policy, mesh, warmup, directory, None, preemption)
    results = []
    for run in runs:
      rate = run.optimizer.learning_rate
      path, run.steps, run.eval.every = directory / f"lr_{rate:g}", max(steps), epoch * math.gcd(*config.epochs)
      with Workdir.open(path, run, digests | data.digests | evaluator.digests):
        try:
          sft.fit(run, policy, mesh, data, path, measure, preemption, seed=config.seed)
          diverged = False
        except Diverged:
          diverged = True  # which is a result: the line ends there
      results.append({"learning_rate": rate, "diverged": diverged, "points": _points(config, path, steps)})
  result = {"examples": data.batches.num_examples, "steps_per_epoch": epoch, "runs": results}
  atomic_files.write_text(directory / _RESULTS, json.dumps(result, indent=2) + "\n")
  plot_forgetting(directory / _FIGURE, [_curve(run) for run in results])
  return _headline(results) | {"figure": str(directory / _FIGURE)}


def write_narrow(config: ml_collections.ConfigDict, directory: pathlib.Path) -> None:
  """Writes what the procedural study trains and tests on, and has the config name it.

  demonstrations.jsonl has careful answers, without a slip, to training problems of `narrow.difficulties`;
  held_out.jsonl has held-out problems of the same.

  Args:
    config: the study's; `demonstrations.path` and the held-out set's `prompts.path` are set.
    directory: where to.
  """
  narrow = config.narrow
  options = dict(seed=narrow.seed, difficulties=narrow.difficulties)
  crowd = Crowd(careful=(1.0,), rambling=(0.0,), slip=0.0)
  trained = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=narrow.examples, **options)
  files = {
    "demonstrations.jsonl": demonstrations.demonstrations(trained, crowd=crowd, seed=narrow.seed),
    "held_out.jsonl": arithmetic.problems(arithmetic.Split.HELD_OUT, per_difficulty=narrow.problems, **options),
  }
  for name, rows in files.items():
    atomic_files.write_text(directory / name, "".join(json.dumps(row) + "\n" for row in rows))
  config.demonstrations.path = str(directory / "demonstrations.jsonl")
  config.eval.sets[HELD_OUT].prompts.path = str(directory / "held_out.jsonl")


def _check(config: ml_collections.ConfigDict) -> None:
  rates, epochs = config.learning_rates, config.epochs
  if not rates or len({f"{rate:g}" for rate in rates}) < len(rates) or min(rates) <= 0:
    raise InputError(f"learning_rates: {tuple(rates)}, expected different ones above 0")
  if not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] < 1:
    raise InputError(f"epochs: {tuple(epochs)}, expected whole numbers from 1 on, going up")
  if not config.demonstrations.path and "narrow" not in config:
    raise InputError("demonstrations.path: empty, expected a file of what to fine-tune on")
  if HELD_OUT not in config.eval.sets:
    raise InputError(f"eval.sets: {', '.join(config.eval.sets) or 'none'}, expected one named {HELD_OUT}")


def _run_config(config: ml_collections.ConfigDict, learning_rate: float) -> ml_collections.ConfigDict:
  """The config of one supervised run, as `configs/tiny_sft.py` has it."""
  run = config.copy_and_resolve_references().unlock()
  for name in _OF_THE_STUDY:
    if name in run:
      del run[name]
  run.steps, run.epochs, run.max_skipped_updates = 0, max(config.epochs), 1
  run.eval.every, run.optimizer.learning_rate = -1, learning_rate
  return run.lock()


def _points(config: ml_collections.ConfigDict, path: pathlib.Path, steps: Mapping[int, int]) -> list[dict[str, Any]]:
  """What a run measured at the epochs asked for, in plain names; what has an interval has it as `_low` and `_high`."""
  sources = {"accuracy": f"{HELD_OUT}/avg@{config.eval.sets[HELD_OUT].samples}", "greedy": f"{HELD_OUT}/greedy"}
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


def _curve(run: Mapping[str, Any]) -> Curve:
  def column(name: str, ends: Sequence[str] = ("",)) -> np.ndarray:
    # None stands for NaN: nothing could be judged, or a perplexity is beyond float64.
    rows = [[point[name + end] for end in ends] for point in run["points"]]
    return np.array(rows, np.float64).squeeze(1 if len(ends) == 1 else ())

  return Curve(
    learning_rate=run["learning_rate"],
    epochs=column("epoch"),
    accuracy=column("accuracy", _INTERVAL),
    perplexity=column("perplexity"),
    distinct_2=column("distinct_2", _INTERVAL),
  )


def _headline(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Before, and the last point of each run."""
  before = runs[0]["points"][0]
  after = [{name: run["points"][-1][name] for name in ("epoch", *_HEADLINE)} for run in runs]
  return {
    **{f"{name}_before": before[name] for name in _HEADLINE},
    "runs": [{"learning_rate": run["learning_rate"], **last} for run, last in zip(runs, after)],
  }
