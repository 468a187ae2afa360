r"""Times rollouts, the learner, a whole step, or the hand-over of parameters.

    python -m experiments.benchmark --mode=rollout|learner|step|handover|formula --model=smol_4layer --prompts=8 \
      --group=8 --prompt_length=64 --new_tokens=128

Weights and prompts are random, and nothing ends an answer before --new_tokens unless --mean_length gives lengths a
geometric distribution. A share of the limit compares with what this machine could do at most, measured in the same
process (`posttrain_jax.performance.roofline`). --mode=formula compares a step with the formula of
`experiments.compile`, at the rates of this machine. --profile=DIR writes a trace of the last run, for TensorBoard or
Perfetto. Timings are medians over --runs; compare them within one machine only. The last line printed is one JSON
object. Exit codes: 0 done, 2 bad input, 1 anything else.
"""

import dataclasses
import json

from absl import flags as absl_flags

from experiments import flags

_MODE = absl_flags.DEFINE_enum(
  "mode", "rollout", ["rollout", "learner", "step", "handover", "formula"], "what is timed"
)
_MODEL = absl_flags.DEFINE_string("model", "smol_4layer", "a name of posttrain_jax.models.sizes")
_DTYPE = absl_flags.DEFINE_enum("compute_dtype", "float32", ["float32", "bfloat16"], "of activations and weights")
_REMAT = absl_flags.DEFINE_enum("remat", "none", ["none", "dots", "full"], "what the backward pass computes again")
_UNROLL = absl_flags.DEFINE_integer("unroll", 1, "layers of the learner's scan that are unrolled together")
_PROFILE = absl_flags.DEFINE_string("profile", None, "directory for a trace of the last run")
_WORK = [
  absl_flags.DEFINE_integer("prompts", 8, "groups of a rollout or of an update"),
  absl_flags.DEFINE_integer("group", 8, "answers per prompt"),
  absl_flags.DEFINE_integer("prompt_length", 64, "tokens of every prompt"),
  absl_flags.DEFINE_integer("new_tokens", 128, "cap on an answer's tokens; its length if nothing ends it before"),
  absl_flags.DEFINE_integer("slots", 64, "answers drawn at the same time"),
  absl_flags.DEFINE_integer("mean_length", 0, "mean of geometric lengths before the cap; 0: all are equal"),
  absl_flags.DEFINE_integer("clip_length", 0, "forces geometric lengths up to this one, alike for all --new_tokens"),
  absl_flags.DEFINE_float("temperature", 1.0, "of sampling; 0 is greedy"),
  absl_flags.DEFINE_integer("steps_per_dispatch", 16, "decode steps between two looks at what has finished"),
  absl_flags.DEFINE_integer("logprob_chunk", 1024, "most tokens whose logits the learner holds at a time"),
  absl_flags.DEFINE_integer("tokens_per_micro_batch", 0, "tokens that the learner computes at a time; 0: chosen"),
  absl_flags.DEFINE_integer("runs", 5, "timed repetitions after the first call"),
  absl_flags.DEFINE_integer("seed", 0, "of weights, prompts and draws"),
]


def main():
  import jax

  from posttrain_jax.local_path import local_path
  from posttrain_jax.models.sizes import sizes
  from posttrain_jax.performance import formula, learning, rollout, step, timing
  from posttrain_jax.performance.work import Work

  modes = {
    "rollout": rollout.rollout,
    "learner": learning.learning,
    "step": step.step,
    "handover": step.handover,
    "formula": formula.formula,
  }
  how = {"compute_dtype": _DTYPE.value, "remat": _REMAT.value, "unroll": _UNROLL.value}
  model = dataclasses.replace(sizes(_MODEL.value), **how)
  asked = {flag.name: flag.value for flag in _WORK}
  found = modes[_MODE.value](Work(model, **asked), _PROFILE.value and str(local_path(_PROFILE.value, "--profile")))
  device = jax.devices()[0]
  where = {"device": device.device_kind, "devices": jax.device_count(), **how}
  memory = {"peak_memory_gib": timing.peak_memory_gib()}
  print(json.dumps({"mode": _MODE.value, "model": _MODEL.value, **asked, **where, **found, **memory}))


if __name__ == "__main__":
  flags.run_plain(main)
