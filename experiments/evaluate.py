"""Evaluates a policy on problems with checkable answers: avg@k, pass@k, maj@k and greedy accuracy.

    python -m experiments.evaluate --model=PATH_OR_NAME --task=gsm8k --path=FILE [--samples=8] [--limit=N]

PATH_OR_NAME is a run's workdir, a Hugging Face directory, a GGUF file or a known name; FILE is JSONL, gzipped or not,
or tfds:NAME/SPLIT. A task says how problems are asked, sampled and judged
(`posttrain_jax.evaluation.public_benchmarks`); flags
change its settings. Intervals are 95 % over problems. The last line printed is one JSON object. Exit codes: 0 done, 2
bad input, 1 anything else.
"""

import dataclasses
import json
import math
import time

from absl import flags as absl_flags

from experiments import flags

_MODEL = absl_flags.DEFINE_string("model", None, "workdir, Hugging Face directory, GGUF file or known name")
_CHECKPOINT = absl_flags.DEFINE_enum("checkpoint", None, ["latest", "best", "average"], "which of a workdir")
_TASK = absl_flags.DEFINE_string("task", None, "gsm8k, math, aime, jsonl (any file), chains or facts (procedural)")
_PATH = absl_flags.DEFINE_string("path", "", "problems: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT")
_LIMIT = absl_flags.DEFINE_integer("limit", 0, "the first so many problems only; 0: all", lower_bound=0)
_SLOTS = absl_flags.DEFINE_integer("slots", 64, "answers drawn at the same time", lower_bound=1)
_SEED = absl_flags.DEFINE_integer("seed", 0, "of the draws")
_SETTINGS = [
  absl_flags.DEFINE_integer("samples", None, "answers per problem; None: the task's", lower_bound=1),
  absl_flags.DEFINE_integer("max_new_tokens", None, "cap on an answer; None: the task's", lower_bound=1),
  absl_flags.DEFINE_float("temperature", None, "of sampling; None: the task's"),
  absl_flags.DEFINE_float("top_p", None, "nucleus of sampling; None: the task's"),
]
absl_flags.mark_flags_as_required(["model", "task"])


def main():
  import rich.console

  from posttrain_jax.assembly.model import Which, open_policy
  from posttrain_jax.evaluation.evaluate import evaluate
  from posttrain_jax.evaluation.public_benchmarks import BENCHMARKS
  from posttrain_jax.runs.summary import metrics_table
  from posttrain_jax.types import InputError

  start = time.perf_counter()
  if _TASK.value not in BENCHMARKS:
    raise InputError(f"--task={_TASK.value}: expected one of {', '.join(BENCHMARKS)}")
  settings = {flag.name: flag.value for flag in _SETTINGS if flag.value is not None}
  benchmark = dataclasses.replace(BENCHMARKS[_TASK.value], **settings)
  policy = open_policy(_MODEL.value, Which(_CHECKPOINT.value) if _CHECKPOINT.value else None)
  metrics, _ = evaluate(policy, benchmark, _PATH.value, limit=_LIMIT.value, slots=_SLOTS.value, seed=_SEED.value)
  print(f"{_TASK.value}, {metrics['problems']} problems, {benchmark.samples} samples each: {_MODEL.value}", flush=True)
  rich.console.Console().print(metrics_table(metrics))
  values = {name: None if math.isnan(value) else value for name, value in metrics.items()}
  print(json.dumps({"task": _TASK.value, **values, "seconds": round(time.perf_counter() - start, 2)}))


if __name__ == "__main__":
  flags.run_plain(main)
