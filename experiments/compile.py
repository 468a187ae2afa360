r"""Compiles a config's programs for a TPU topology, without a TPU, and says whether they fit.

    python -m experiments.compile --config=configs/NAME.py[:arg] --topology=v5p:4x4x8 [--slices=2] \
      [--model=NAME] [--programs=NAME,...] [--answer_length=4096]

Needs libtpu, see launch/README.md. The programs are those that the run would execute, with arrays that are only
described: no weights, no data. The methods are GRPO and its kin, PPO, DPO on given pairs, SFT, reward models, and
collections of sampled answers, of which a step is a round. The last line printed is one JSON object: for each program
the seconds that compiling took, the peak GiB on a device, collectives by kind with count and MiB ([outside of loops, in
a loop, in a loop in a loop, ...]), the FLOPs of a call, and what the chip's peaks allow at best (`at_best`: seconds,
what bounds them, tokens a second a chip, model-FLOP utilisation, warnings); FLOPs of a step, what a step takes at best,
and the GiB of each model. Exit codes: 0 it fits, 2 it does not, or bad config or input, 1 anything else.
"""

import json
import os
import sys

from absl import flags as absl_flags

from experiments import flags

_TOPOLOGY = absl_flags.DEFINE_string("topology", None, "generation and chips along each axis, such as v5e:2x2")
_SLICES = absl_flags.DEFINE_integer("slices", 1, "number of such slices, connected by the network", lower_bound=1)
_MODEL = absl_flags.DEFINE_string("model", "", "sizes of a public model, in place of those that model.path names")
_PROGRAMS = absl_flags.DEFINE_list("programs", [], "which programs to compile, such as decode,update_on_policy; all")
_ANSWER_LENGTH = absl_flags.DEFINE_integer("answer_length", 0, "tokens of each answer in the counts; 0: the cap")
absl_flags.mark_flag_as_required("topology")


def main(config, workdir):
  del workdir
  os.environ["JAX_PLATFORMS"] = "cpu"  # nothing runs, and no chip is to be opened
  from posttrain_jax.performance.compile.proof import prove
  from posttrain_jax.types import InputError

  def say(line):
    print(line, file=sys.stderr)

  report = prove(
    config,
    topology_name=_TOPOLOGY.value,
    slices=_SLICES.value,
    model=_MODEL.value,
    only=_PROGRAMS.value,
    answer_length=_ANSWER_LENGTH.value,
    say=say,
  )
  print(json.dumps(report), flush=True)
  if report["refused"]:
    others = f" (and {len(report['refused']) - 1} others)" if len(report["refused"]) > 1 else ""
    raise InputError(f"--topology={_TOPOLOGY.value}: {report['refused'][0]}{others}")


if __name__ == "__main__":
  flags.run(main, default="tiny_dapo", needs_workdir=False)
