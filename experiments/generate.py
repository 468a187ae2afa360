"""Writes a model's answer to a prompt, or to each prompt of a file, to stdout.

    python -m experiments.generate --model=PATH_OR_NAME --prompt="What is 7 * 8?" [--temperature=0.7 --seed=1]
    python -m experiments.generate --model=PATH_OR_NAME --prompts=FILE.jsonl > answers.jsonl

PATH_OR_NAME is a run's workdir, a Hugging Face directory, a GGUF file or a known name. A run's model is asked in the
format of its training, any other model by its chat template if it has one. With --prompt, the answer is printed as
text. With --prompts, each row has a `prompt` or `messages`, and one JSON object a prompt is printed, {"prompt",
"answers"}. Without --temperature the most likely tokens are taken. Exit codes: 0 done, 2 bad input, 1 anything else.
"""

import dataclasses
import json

from absl import flags as absl_flags

from experiments import flags

_MODEL = absl_flags.DEFINE_string("model", None, "workdir, Hugging Face directory, GGUF file or known name")
_CHECKPOINT = absl_flags.DEFINE_enum("checkpoint", None, ["latest", "best", "average"], "which of a workdir")
_PROMPT = absl_flags.DEFINE_string("prompt", None, "text to answer")
_PROMPTS = absl_flags.DEFINE_string("prompts", None, "prompts: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT")
_SYSTEM = absl_flags.DEFINE_string("system", None, "system message of a chat; without it that of the model's format")
_CHAT = absl_flags.DEFINE_bool("chat", None, "whether the chat template is used; without it as in the model's format")
_TEMPLATE = absl_flags.DEFINE_string("template", None, "text around {prompt}; without it that of the model's format")
_TEMPERATURE = absl_flags.DEFINE_float("temperature", 0.0, "of sampling; 0: the most likely tokens", lower_bound=0.0)
_TOP_P = absl_flags.DEFINE_float("top_p", 1.0, "nucleus of sampling")
_TOP_K = absl_flags.DEFINE_integer("top_k", 0, "tokens that sampling chooses from; 0: all", lower_bound=0)
_SAMPLES = absl_flags.DEFINE_integer("samples", 1, "answers to each prompt", lower_bound=1)
_MAX_NEW_TOKENS = absl_flags.DEFINE_integer("max_new_tokens", 256, "cap on an answer", lower_bound=1)
_STOP_STRINGS = absl_flags.DEFINE_list("stop_strings", [], "texts that end an answer, with commas between them")
_SEED = absl_flags.DEFINE_integer("seed", 0, "of the draws")
_GROUPS = {
  "what is asked, and in which form": [_PROMPT, _PROMPTS, _SYSTEM, _CHAT, _TEMPLATE],
  "how answers are drawn": [_SAMPLES, _TEMPERATURE, _TOP_P, _TOP_K, _MAX_NEW_TOKENS, _STOP_STRINGS, _SEED],
}
absl_flags.register_validator("top_p", lambda p: p is None or 0 < p <= 1, "expected a number in (0, 1]")


def main():
  from posttrain_jax.assembly.model import Which, open_policy
  from posttrain_jax.assembly.prompt_format import own_format
  from posttrain_jax.assembly.rollout_engine import SamplingSettings
  from posttrain_jax.data import prompts, sources
  from posttrain_jax.evaluation.generate import generate
  from posttrain_jax.types import InputError

  if (_PROMPT.value is None) == (_PROMPTS.value is None):
    raise InputError("--prompt, --prompts: expected one of the two")
  if _PROMPTS.value is None:
    rows = [prompts.Row({"prompt": _PROMPT.value}, "--prompt")]
  else:
    rows, _ = sources.read_rows(_PROMPTS.value)
  policy = open_policy(_MODEL.value, Which(_CHECKPOINT.value) if _CHECKPOINT.value else None)
  given = {"system": _SYSTEM.value or None, "chat": _CHAT.value, "template": _TEMPLATE.value}
  changes = {name: value for name, value in given.items() if value is not None}
  prompt_format = own_format(_MODEL.value, policy.tokenizer)
  if _SYSTEM.value and not changes.get("chat", prompt_format.chat):
    raise InputError(f"--system: {_MODEL.value} is asked by the text alone, expected --chat as well")
  answers = generate(
    policy,
    rows,
    dataclasses.replace(prompt_format, **changes),
    SamplingSettings(
      temperature=_TEMPERATURE.value,
      top_k=_TOP_K.value,
      top_p=_TOP_P.value,
      min_p=0.0,
      stop_ids=(),
      stop_strings=tuple(_STOP_STRINGS.value),
    ),
    max_new_tokens=_MAX_NEW_TOKENS.value,
    samples=_SAMPLES.value,
    seed=_SEED.value,
  )
  if _PROMPTS.value is None:
    print("\n\n".join(answers[0]))
    return
  for row, texts in zip(rows, answers):
    asked = next(row.columns[name] for name in prompts.PROMPT_FIELDS if row.columns.get(name) is not None)
    print(json.dumps({"prompt": asked, "answers": texts}, ensure_ascii=False))


if __name__ == "__main__":
  flags.run_plain(main, required=["model"], groups=_GROUPS)
