"""Compares models pair by pair: rates of wins with intervals, and a ranking.

    python -m experiments.compare --models=A,B[,C...] --prompts=FILE.jsonl --judge=PATH_OR_NAME
    python -m experiments.compare --labels=FILE.jsonl[,FILE.jsonl...]

Each of A, B, C is a PATH_OR_NAME whose answers are drawn, or FILE.jsonl with its answers ({"prompt", "answers"}, as
experiments.generate writes them); NAME= before it gives it a name. A model is asked in the format of its training, any
other by its chat template.

The judge is a reward model, or with --judge_reference a policy trained by DPO, or any other language model, which reads
both answers. It sees each pair in both orders. --labels has what people said, as experiments.label
exports it and the chat page stores it; nothing is loaded then.

Intervals are 95 %, over prompts. The last line printed is one JSON object. Exit codes: 0 done, 2 bad input, 1 anything
else. docs/compare.md says what each number means.
"""

import json

from absl import flags as absl_flags

from experiments import flags

_MODELS = absl_flags.DEFINE_list("models", [], "models or files of their answers, with commas between them")
_PROMPTS = absl_flags.DEFINE_string("prompts", None, "prompts: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT")
_LIMIT = absl_flags.DEFINE_integer("limit", 0, "the first so many prompts only; 0: all", lower_bound=0)
_JUDGE = absl_flags.DEFINE_string("judge", None, "PATH_OR_NAME of the judge")
_REFERENCE = absl_flags.DEFINE_string("judge_reference", None, "what a DPO policy that judges was trained from")
_QUESTION = absl_flags.DEFINE_string(
  "judge_question", None, "FILE with the question for a language model, with {prompt}, {first} and {second} in it"
)
_LABELS = absl_flags.DEFINE_list("labels", [], "files of labels, FILE.jsonl, in place of models and a judge")
_SAMPLES = absl_flags.DEFINE_integer("samples", 1, "answers to each prompt", lower_bound=1)
_TEMPERATURE = absl_flags.DEFINE_float("temperature", 1.0, "of sampling; 0: the most likely tokens", lower_bound=0.0)
_TOP_P = absl_flags.DEFINE_float("top_p", 1.0, "nucleus of sampling")
_MAX_NEW_TOKENS = absl_flags.DEFINE_integer("max_new_tokens", 256, "cap on an answer", lower_bound=1)
_SEED = absl_flags.DEFINE_integer("seed", 0, "of the draws and of the intervals")
_GROUPS = {
  "who judges": [_JUDGE, _REFERENCE, _QUESTION, _LABELS],
  "how answers are drawn": [_SAMPLES, _TEMPERATURE, _TOP_P, _MAX_NEW_TOKENS, _SEED],
}
absl_flags.register_validator("top_p", lambda p: p is None or 0 < p <= 1, "expected a number in (0, 1]")


def main():
  import rich.console

  from posttrain_jax.types import InputError

  if not _LABELS.value:
    for name, flag in (("models", _MODELS), ("prompts", _PROMPTS), ("judge", _JUDGE)):
      if not flag.value:
        raise InputError(f"--{name}: missing, expected it with --models, --prompts and --judge; or --labels alone")
    found, facts = _by_model()
  else:
    for name, flag in (("models", _MODELS), ("prompts", _PROMPTS), ("judge", _JUDGE), ("judge_reference", _REFERENCE)):
      if flag.value:
        raise InputError(f"--{name}: --labels does not use it, expected one of the two")
    found, facts = _by_labels()
  for table in found.tables():
    rich.console.Console().print(table)
  print(json.dumps({**facts, "seed": _SEED.value, **found.to_json()}))


def _by_model():
  from posttrain_jax.assembly.model import read_config
  from posttrain_jax.assembly.rollout_engine import SamplingSettings
  from posttrain_jax.data import prompts, sources
  from posttrain_jax.evaluation import pair_judges, rival_answers
  from posttrain_jax.evaluation.model_comparison import compare_answers

  rivals = rival_answers.parse_rivals(_MODELS.value)
  rows = sources.read_rows(_PROMPTS.value)[0][: _LIMIT.value or None]
  rival_answers.check_rivals(rivals)
  read_config(_JUDGE.value)
  judge = pair_judges.make_judge(_JUDGE.value, reference=_REFERENCE.value, question=_question())
  sampling = SamplingSettings(
    temperature=_TEMPERATURE.value, top_k=0, top_p=_TOP_P.value, min_p=0.0, stop_ids=(), stop_strings=()
  )
  answers = {}
  for rival in rivals:
    answers[rival.name] = rival_answers.answers_of(
      rival, rows, sampling, samples=_SAMPLES.value, max_new_tokens=_MAX_NEW_TOKENS.value, seed=_SEED.value
    )
  found = compare_answers([prompts.own_prompt(row.columns) for row in rows], answers, judge, seed=_SEED.value)
  return found, {"judge": _JUDGE.value, "prompts": len(rows), "samples": _SAMPLES.value}


def _by_labels():
  from posttrain_jax.data import prompts
  from posttrain_jax.evaluation.labelled_pairs import read_labels
  from posttrain_jax.evaluation.model_comparison import compare_labels

  labels, alike = read_labels([row for path in _LABELS.value for row in prompts.read_jsonl(path)])
  found = compare_labels(labels, seed=_SEED.value)
  counts = {"labels": len(labels), "prompts": len({each.question for each in labels}), "of_one_model": alike}
  return found, {"judge": "labels", **counts}


def _question():
  from posttrain_jax.local_path import local_path
  from posttrain_jax.types import InputError

  if _QUESTION.value is None:
    return None
  try:
    return local_path(_QUESTION.value, "--judge_question").read_text("utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"--judge_question={_QUESTION.value}: cannot be read: {error}") from None


if __name__ == "__main__":
  flags.run_plain(main, groups=_GROUPS)
