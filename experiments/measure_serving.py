"""Measures experiments.serve under load: right answers, latency, and throughput as a share of the engine's own.

    python -m experiments.measure_serving --model=PATH_OR_NAME [--clients=64] [--seconds=120] [--rounds=5] [--batch=256]

A server is started on a free port of this machine, and asked by so many clients for so long. Each answer is compared
with what an engine without a server draws. Then both answer batches of requests in turn. The last line printed is one
JSON object. Exit codes: 0 done, 2 bad input, 1 anything else, such as an answer that is missing or wrong.
"""

import json
import sys

from absl import flags as absl_flags

from experiments import flags

_MODEL = absl_flags.DEFINE_string("model", None, "workdir, Hugging Face directory, GGUF file or known name")
_CLIENTS = absl_flags.DEFINE_integer("clients", 64, "that wait for an answer at the same time", lower_bound=1)
_SECONDS = absl_flags.DEFINE_float("seconds", 120.0, "of the first part", lower_bound=0.1)
_ROUNDS = absl_flags.DEFINE_integer("rounds", 5, "batches that server and engine answer in turn", lower_bound=0)
_BATCH = absl_flags.DEFINE_integer("batch", 256, "requests of each, several times as many as clients", lower_bound=1)
_SLOTS = absl_flags.DEFINE_integer(
  "slots", 32, "of the engine, fewer than clients: a slot waits while its client reads and asks", lower_bound=1
)
_STEPS = absl_flags.DEFINE_integer("steps_per_dispatch", 8, "of the engine", lower_bound=1)
_PROMPT = absl_flags.DEFINE_integer("max_prompt_length", 256, "of the engine and of the requests", lower_bound=1)
_NEW = absl_flags.DEFINE_integer("max_new_tokens", 256, "of the engine and of the requests", lower_bound=1)
_MEAN = absl_flags.DEFINE_integer("mean_length", 64, "tokens of prompts and of answers", lower_bound=2)
_SEED = absl_flags.DEFINE_integer("seed", 0, "of the requests")


def main():
  from posttrain_jax.serving.extra import check_installed

  check_installed("experiments.measure_serving")
  from posttrain_jax.performance.serving import ServingWork, measure_serving

  found = measure_serving(
    ServingWork(
      model=_MODEL.value,
      clients=_CLIENTS.value,
      seconds=_SECONDS.value,
      rounds=_ROUNDS.value,
      batch=_BATCH.value,
      slots=_SLOTS.value,
      steps_per_dispatch=_STEPS.value,
      max_prompt_length=_PROMPT.value,
      max_new_tokens=_NEW.value,
      mean_length=_MEAN.value,
      seed=_SEED.value,
    )
  )
  print(json.dumps(found))
  if found["wrong_answers"]:
    sys.exit(f"error: {found['wrong_answers']} answers are missing or wrong")


if __name__ == "__main__":
  flags.run_plain(main, required=["model"])
