r"""Compares what a decode step reads through our kernel and through JAX's.

Ours reads a group's prompt once, JAX's once an answer.

    python -m experiments.page_reads --topology=v5e:2x2 --model=qwen2_5_0_5b --slots=64 --group=8 \
      --prompt_length=512 --answer_length=1024 [--tensor=1]

Needs libtpu, see launch/README.md, and no TPU. Bytes are counted from the work; memory is the compiler's, for one layer
on one chip. The last line printed is one JSON object. Exit codes: 0 done, 2 bad input, 1 anything else.
"""

import dataclasses
import json
import os

from absl import flags as absl_flags

from experiments import flags

_TOPOLOGY = absl_flags.DEFINE_string("topology", "v5e:2x2", "generation and chips along each axis")
_MODEL = absl_flags.DEFINE_string("model", "qwen2_5_0_5b", "a name of posttrain_jax.models.sizes")
_SIZES = [
  absl_flags.DEFINE_integer("slots", 64, "answers on a chip", lower_bound=1),
  absl_flags.DEFINE_integer("group", 8, "answers to a prompt", lower_bound=1),
  absl_flags.DEFINE_integer("prompt_length", 512, "tokens of a prompt", lower_bound=1),
  absl_flags.DEFINE_integer("answer_length", 1024, "live tokens of an answer", lower_bound=1),
  absl_flags.DEFINE_integer("tensor", 1, "chips that the heads are split over", lower_bound=1),
]


def main():
  os.environ["JAX_PLATFORMS"] = "cpu"  # nothing runs, and no chip is to be opened
  from posttrain_jax.models.sizes import sizes
  from posttrain_jax.performance.compile.page_reads import Decoding, compare

  asked = {flag.name: flag.value for flag in _SIZES}
  model = dataclasses.replace(sizes(_MODEL.value), compute_dtype="bfloat16")
  found = compare(Decoding(model, **asked), _TOPOLOGY.value)
  print(json.dumps({"topology": _TOPOLOGY.value, "model": _MODEL.value, **asked, **found}))


if __name__ == "__main__":
  flags.run_plain(main)
