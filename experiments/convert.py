"""Writes a model as a Hugging Face directory, for transformers and all that read its format.

    python -m experiments.convert --model=PATH_OR_NAME --output=DIR [--dtype=bfloat16] [--shard_gib=5]

PATH_OR_NAME is a run's workdir, a Hugging Face directory, a GGUF file or a known name. DIR gets config.json,
safetensors (several with an index, if they are larger than --shard_gib), generation_config.json, and the tokeniser with
its chat template. A reward model becomes a classifier with one label. DIR appears when all of it is written. The host
holds one tensor at a time. The last line printed is one JSON object. Exit codes: 0 done, 2 bad input, 1 anything else.
"""

import json

from absl import flags as absl_flags

from experiments import flags

_MODEL = absl_flags.DEFINE_string("model", None, "workdir, Hugging Face directory, GGUF file or known name")
_OUTPUT = absl_flags.DEFINE_string("output", None, "directory to write; empty or not there yet")
_DTYPE = absl_flags.DEFINE_enum(
  "dtype", None, ["float32", "bfloat16", "float16"], "of the weights; None: as stored, float32 for runs and GGUF files"
)
_SHARD_GIB = absl_flags.DEFINE_float("shard_gib", 5.0, "most GiB of a file of weights", lower_bound=2**-30)
_CHECKPOINT = absl_flags.DEFINE_enum("checkpoint", None, ["latest", "best", "average"], "which of a workdir")


def main():
  from posttrain_jax.assembly.convert import convert
  from posttrain_jax.assembly.model import Which

  which = Which(_CHECKPOINT.value) if _CHECKPOINT.value else None
  written = convert(
    _MODEL.value,
    _OUTPUT.value,
    dtype=_DTYPE.value,
    shard_bytes=int(_SHARD_GIB.value * 2**30),
    which=which,
  )
  print(f"{_MODEL.value} as a Hugging Face directory: {_OUTPUT.value}", flush=True)
  print(json.dumps(written))


if __name__ == "__main__":
  flags.run_plain(main, required=["model", "output"])
