r"""Checks numbers and times rollouts, updates and steps on one GPU, within a given time.

    bash launch/measure_gpu.sh [--wheels=DIR]
    python -m experiments.measure_gpu [--models=NAME,...] [--seconds=540] [--new_tokens=512]

Attention, decoding and losses in bfloat16 are compared with float32 formulas. Then each model, with random weights,
runs steps with answers of mean length --new_tokens / 4 and of --new_tokens. Each part is a process of its own, and the
smallest come first. If the time does not suffice, the largest are left out, and the report says so. The last line
printed is one JSON object: the device, the checks, and for each model and length the seconds of rollout, update and
step, tokens a second, shares of the device's peak and bandwidth (null if they are not in
`posttrain_jax.performance.chips`), and its peak memory. Exit codes: 0 all checks passed, 2 bad input, 1 anything else.
"""

import functools
import json
import sys

from absl import flags as absl_flags

from experiments import flags

_MODELS = absl_flags.DEFINE_list(
  "models", ["smollm2_135m", "qwen2_5_0_5b", "qwen2_5_1_5b"], "names of posttrain_jax.models.sizes"
)
_SECONDS = absl_flags.DEFINE_float("seconds", 540, "for everything", lower_bound=1)
_PART = absl_flags.DEFINE_string("part", "", "measure this part in this process: checks, or MODEL:MEAN_LENGTH")
_REMAT = absl_flags.DEFINE_enum("remat", "full", ["none", "dots", "full"], "what the backward pass computes again")
_CHECK_LENGTH = absl_flags.DEFINE_integer("check_length", 512, "tokens of a row that is checked, a multiple of 4")
_WORK = [
  absl_flags.DEFINE_integer("prompts", 16, "groups of a rollout and of an update"),
  absl_flags.DEFINE_integer("group", 8, "answers per prompt"),
  absl_flags.DEFINE_integer("prompt_length", 128, "tokens of every prompt"),
  absl_flags.DEFINE_integer("new_tokens", 512, "cap on an answer's tokens"),
  absl_flags.DEFINE_integer("slots", 128, "answers drawn at the same time"),
  absl_flags.DEFINE_integer("runs", 2, "timed repetitions after the first step"),
]


def main():
  from posttrain_jax.performance.device_report import measure_part, report
  from posttrain_jax.performance.work import Work

  asked = {flag.name: flag.value for flag in _WORK}
  if _PART.value:
    print(
      json.dumps(measure_part(_PART.value, functools.partial(Work, **asked), _REMAT.value, _CHECK_LENGTH.value)),
      flush=True,
    )
    return
  own = [f"--{name}={value}" for name, value in asked.items()] + [
    f"--remat={_REMAT.value}",
    f"--check_length={_CHECK_LENGTH.value}",
  ]

  def command(part):
    return [sys.executable, "-m", "experiments.measure_gpu", f"--part={part}", *own]

  found = report(_MODELS.value, asked["new_tokens"], _SECONDS.value, command, lambda line: print(line, file=sys.stderr))
  print(json.dumps({**found, **asked, "remat": _REMAT.value}), flush=True)
  if not found["passed"]:
    print("error: not all checks passed, see the last line of the output", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
  flags.run_plain(main)
