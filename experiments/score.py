"""Scores rows of text or tokens: logprobs and greedy continuations, or rewards.

    python -m experiments.score --model=PATH_OR_NAME --input=rows.jsonl --output=scores.jsonl [--greedy_tokens=24]

PATH_OR_NAME is a run's workdir, a Hugging Face directory, a GGUF file or a known name. A row is {"tokens": [...]} or
{"text": "..."}; the output has "tokens", "text", "logprobs" (one fewer), "greedy" and "greedy_text" for each, in the
same order. With --stop, a greedy continuation ends at the first end token.

A reward model (a run of `experiments.reward_model`, or a Hugging Face classifier with one label) gives "tokens", "text"
and "reward", the score at the row's last token; --greedy_tokens and --stop have no meaning then. If the model comes
without a tokeniser, there are no texts. The last line printed is one JSON object. Exit codes: 0 done, 2 bad input, 1
anything else.
"""

import json
import time

from absl import flags as absl_flags

from experiments import flags

_MODEL = absl_flags.DEFINE_string("model", None, "workdir, Hugging Face directory, GGUF file or known name")
_INPUT = absl_flags.DEFINE_string("input", None, "JSONL file of rows")
_OUTPUT = absl_flags.DEFINE_string("output", None, "JSONL file to write")
_GREEDY_TOKENS = absl_flags.DEFINE_integer("greedy_tokens", 24, "tokens of the greedy continuation", lower_bound=0)
_CHECKPOINT = absl_flags.DEFINE_enum("checkpoint", None, ["latest", "best", "average"], "which of a workdir")
_STOP = absl_flags.DEFINE_bool("stop", False, "end a greedy continuation at the first end token")
_BEYOND_CONTEXT = absl_flags.DEFINE_boolean("beyond_context", False, "allow rows longer than the model's context")


def main():
  from posttrain_jax.assembly.model import Which
  from posttrain_jax.evaluation.score import score

  start = time.perf_counter()
  which = Which(_CHECKPOINT.value) if _CHECKPOINT.value else None
  counts = score(
    _MODEL.value,
    _INPUT.value,
    _OUTPUT.value,
    greedy_tokens=_GREEDY_TOKENS.value,
    which=which,
    beyond_context=_BEYOND_CONTEXT.value,
    stop=_STOP.value,
  )
  print(json.dumps({**counts, "seconds": round(time.perf_counter() - start, 2), "output": _OUTPUT.value}))


if __name__ == "__main__":
  flags.run_plain(
    main,
    required=["model", "input", "output"],
    groups={"greedy continuations of a language model": [_GREEDY_TOKENS, _STOP]},
  )
