"""Evaluates a policy on problems with checkable answers: avg@k, pass@k, maj@k and greedy accuracy.

    python -m experiments.evaluate --model=PATH_OR_NAME --task=gsm8k --path=FILE [--samples=8] [--limit=N]

PATH_OR_NAME is a run's workdir, a Hugging Face directory, a GGUF file or a known name; FILE is JSONL, gzipped or not,
or tfds:NAME/SPLIT. A task says how problems are asked, sampled and judged
(`posttrain_jax.evaluation.public_benchmarks`); flags change its settings. A run is asked as in its training: the same
template, chat, system message and variables of the chat template. --template, --chat, --system, --chat_arguments and
--left_out change these.

`--reward=MODULE:FUNCTION` or `--reward=FILE.py:FUNCTION` judges by a reward function of one's own. Its mean is
`reward`; accuracies are its values, cut to [0, 1]. `--answers=OUT.jsonl` stores every sampled answer with its prompt,
reference, extracted answer, accuracy and reward.

`--task=xstest --judge=PATH_OR_NAME` lets a chat model judge, too, whether answers refuse, and tells how often it agrees
with the rule, by label and by type of prompt.

`--task=alignment` asks requests of the assistant world and judges the answers by rules: how helpful, harmless and
honest a model is (`posttrain_jax.evaluation.alignment`). --limit is then the number of requests of each kind,
--reference the model to which the KL is measured, and --picture=OUT.png gets the reliability diagrams of the stated
confidences and of the answer probabilities. Answers are drawn at temperature 1, for every model.

Where answers are right or wrong, what they claim is compared with that: `vote_ece` by the share of samples that vote
for the most common answer, `probability_ece` by the mean probability of an answer's tokens, and `stated_ece` by
confidences that answers state ("I am 80 % sure"), which a prompt has to ask for (--template).

Intervals are 95 % over problems. The last line printed is one JSON object. Exit codes: 0 done, 2 bad input, 1 anything
else.
"""

import dataclasses
import functools
import json
import math
import time

from absl import flags as absl_flags

from experiments import flags

_MODEL = absl_flags.DEFINE_string("model", None, "workdir, Hugging Face directory, GGUF file or known name")
_CHECKPOINT = absl_flags.DEFINE_enum("checkpoint", None, ["latest", "best", "average"], "which of a workdir")
_TASK = absl_flags.DEFINE_string(
  "task", None, "gsm8k, math, aime, xstest, jsonl (any file), chains or facts (procedural), alignment"
)
_PATH = absl_flags.DEFINE_string("path", "", "problems: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT")
_LIMIT = absl_flags.DEFINE_integer("limit", 0, "the first so many problems only; 0: all", lower_bound=0)
_SLOTS = absl_flags.DEFINE_integer("slots", 64, "answers drawn at the same time", lower_bound=1)
_SEED = absl_flags.DEFINE_integer("seed", 0, "of the draws")
_REWARD = absl_flags.DEFINE_string(
  "reward", None, "MODULE:FUNCTION or FILE.py:FUNCTION that judges; without it the task's"
)
_REWARD_OPTIONS = absl_flags.DEFINE_string("reward_options", "{}", "its keyword arguments, a JSON object")
_ANSWERS = absl_flags.DEFINE_string("answers", None, "JSONL file to write, a line for each sampled answer")
_SETTINGS = [
  absl_flags.DEFINE_integer("samples", None, "answers per problem; without it the task's", lower_bound=1),
  absl_flags.DEFINE_integer("max_new_tokens", None, "cap on an answer; without it the task's", lower_bound=1),
  absl_flags.DEFINE_float("temperature", None, "of sampling; without it the task's", lower_bound=0.0),
  absl_flags.DEFINE_float("top_p", None, "nucleus of sampling; without it the task's"),
]
_STOP_IDS = absl_flags.DEFINE_list("stop_ids", [], "ids that end an answer, besides those that the model names")
_STOP_STRINGS = absl_flags.DEFINE_multi_string("stop_strings", [], "a text that ends an answer; may be repeated")
# How problems are asked. Without a flag, a run's workdir asks as in its training, another model as the task says.
_FORMAT = [
  absl_flags.DEFINE_string("template", None, "text around a problem, which stands for {prompt}"),
  absl_flags.DEFINE_boolean("chat", None, "whether the problem is a user's turn in the chat template"),
  absl_flags.DEFINE_string("system", None, "system message of the chat; empty: none"),
  absl_flags.DEFINE_string("chat_arguments", None, "variables of the chat template, as a JSON object"),
  absl_flags.DEFINE_enum("left_out", None, ["error", "allow"], "action on words that the chat template leaves out"),
]
_REFERENCE = absl_flags.DEFINE_string("reference", None, "alignment: model to which the KL is measured; None: no KL")
_JUDGE = absl_flags.DEFINE_string("judge", None, "xstest: chat model that judges beside the rule; None: none")
_PICTURE = absl_flags.DEFINE_string(
  "picture", None, "alignment: PNG of the reliability of stated confidences and answer probabilities"
)
_BEYOND_CONTEXT = absl_flags.DEFINE_boolean("beyond_context", False, "allow texts longer than the model's context")
_JUDGE_READS = 800  # characters of a prompt and of an answer
_OF_ALIGNMENT = [_REFERENCE, _PICTURE]
_NOT_OF_ALIGNMENT = [_PATH, _JUDGE, _REWARD, _REWARD_OPTIONS, *_SETTINGS[2:], _STOP_IDS, _STOP_STRINGS, _BEYOND_CONTEXT]
_GROUPS = {
  "how problems are asked": [*_FORMAT, _BEYOND_CONTEXT],
  "how answers are drawn": [*_SETTINGS, _STOP_IDS, _STOP_STRINGS, _SLOTS, _SEED],
  "how answers are judged, and where they are kept": [_REWARD, _REWARD_OPTIONS, _JUDGE, _ANSWERS],
}
absl_flags.register_validator("top_p", lambda p: p is None or 0 < p <= 1, "expected a number in (0, 1]")


def main():
  _check_task()
  import rich.console

  from posttrain_jax import atomic_files
  from posttrain_jax.assembly.model import Which, is_run, open_policy, read_config
  from posttrain_jax.assembly.prompt_format import format_of_run, with_flags
  from posttrain_jax.evaluation.answer_records import answer_lines
  from posttrain_jax.evaluation.evaluate import evaluate, usual_format
  from posttrain_jax.evaluation.public_benchmarks import BENCHMARKS
  from posttrain_jax.local_path import output_file
  from posttrain_jax.rewards.extract import find_answer
  from posttrain_jax.runs.summary import metrics_table
  from posttrain_jax.types import InputError

  start = time.perf_counter()
  if _TASK.value not in (*BENCHMARKS, "alignment"):
    raise InputError(f"--task={_TASK.value}: expected one of {', '.join(BENCHMARKS)} or alignment")
  if _TASK.value == "alignment":
    return _alignment(start)
  settings = {flag.name: flag.value for flag in _SETTINGS if flag.value is not None}
  if _REWARD.value is not None:
    settings |= {"verifier": _REWARD.value, "options": _reward_options()}
  if not all(stop.isdecimal() for stop in _STOP_IDS.value):
    raise InputError(f"--stop_ids={','.join(_STOP_IDS.value)}: expected token ids with commas between them")
  stops = dict(stop_ids=tuple(map(int, _STOP_IDS.value)), stop_strings=tuple(_STOP_STRINGS.value))
  benchmark = dataclasses.replace(BENCHMARKS[_TASK.value], **settings, **stops)
  stored = None if _ANSWERS.value is None else output_file(_ANSWERS.value, "--answers")
  if _JUDGE.value is not None:
    read_config(_JUDGE.value)  # a wrong path is found before anything is drawn
  policy = open_policy(_MODEL.value, Which(_CHECKPOINT.value) if _CHECKPOINT.value else None)
  if _BEYOND_CONTEXT.value:
    policy = dataclasses.replace(policy, model=dataclasses.replace(policy.model, beyond_context=True))
  asked = format_of_run(_MODEL.value) if is_run(_MODEL.value) else None
  asked = with_flags(asked or usual_format(policy, benchmark), {flag.name: flag.value for flag in _FORMAT})
  metrics, groups = evaluate(
    policy,
    benchmark,
    _PATH.value,
    limit=_LIMIT.value,
    slots=_SLOTS.value,
    seed=_SEED.value,
    prompt_format=asked,
  )
  verdicts = [{} for group in groups for _ in group.answers]
  if _JUDGE.value is not None:
    agreement, verdicts = _judged(groups, benchmark.split_by)
    metrics |= agreement
  if stored is not None:
    lines = answer_lines(groups, policy.tokenizer.decode, functools.partial(find_answer, style=benchmark.style))
    lines = [line | verdict for line, verdict in zip(lines, verdicts)]
    atomic_files.write_text(stored, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
  print(f"{_TASK.value}, {metrics['problems']} problems, {benchmark.samples} samples each: {_MODEL.value}", flush=True)
  rich.console.Console().print(metrics_table(metrics))
  values = {name: None if math.isnan(value) else value for name, value in metrics.items()}
  print(json.dumps({"task": _TASK.value, **values, "seconds": round(time.perf_counter() - start, 2)}))


def _judged(groups: list, columns: tuple[str, ...]) -> tuple[dict, list[dict]]:
  from posttrain_jax.data.verdict_question import ENGLISH
  from posttrain_jax.evaluation.judged_refusals import judge_refusals
  from posttrain_jax.evaluation.second_opinion import SecondJudge, open_judge

  judge = open_judge(SecondJudge(path=_JUDGE.value, longest=_JUDGE_READS), ENGLISH, seed=_SEED.value)
  return judge_refusals(groups, judge, columns, seed=_SEED.value)


def _check_task() -> None:
  """Refuses flags that the task does not use."""
  from posttrain_jax.types import InputError

  if _JUDGE.present and _TASK.value not in ("xstest", "alignment"):
    raise InputError(f"--judge: --task={_TASK.value} does not use it, expected it left out")
  for flag in _NOT_OF_ALIGNMENT if _TASK.value == "alignment" else _OF_ALIGNMENT:
    if flag.present:
      raise InputError(f"--{flag.name}: --task={_TASK.value} does not use it, expected it left out")


def _alignment(start: float) -> None:
  import rich.console

  from posttrain_jax import atomic_files
  from posttrain_jax.assembly.model import Which, is_run, open_policy
  from posttrain_jax.assembly.prompt_format import format_of_run, with_flags
  from posttrain_jax.evaluation.alignment import measure_policy
  from posttrain_jax.evaluation.alignment_settings import usual_settings, world_format
  from posttrain_jax.local_path import output_file
  from posttrain_jax.reports.reliability_figure import plot_reliabilities
  from posttrain_jax.runs.summary import metrics_table

  stored = None if _ANSWERS.value is None else output_file(_ANSWERS.value, "--answers")
  picture = None if _PICTURE.value is None else output_file(_PICTURE.value, "--picture")
  given = {flag.name: flag.value for flag in _SETTINGS[:2] if flag.value is not None}
  policy = open_policy(_MODEL.value, Which(_CHECKPOINT.value) if _CHECKPOINT.value else None)
  reference = None if _REFERENCE.value is None else open_policy(_REFERENCE.value)
  settings = usual_settings(policy, requests=_LIMIT.value, slots=_SLOTS.value, **given)
  asked = format_of_run(_MODEL.value) if is_run(_MODEL.value) else None
  asked = with_flags(world_format(policy, asked), {flag.name: flag.value for flag in _FORMAT})
  found = measure_policy(policy, settings, asked, seed=_SEED.value, reference=reference)
  if stored is not None:
    atomic_files.write_text(stored, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found.lines()))
  if picture is not None:
    plot_reliabilities(picture, found.diagrams())
  values = found.flat()
  print(f"alignment, {settings.requests} requests of each kind, {settings.samples} samples each: {_MODEL.value}")
  rich.console.Console().print(metrics_table(values))
  values = {name: None if math.isnan(value) else value for name, value in values.items()}
  print(json.dumps({"task": "alignment", **values, "seconds": round(time.perf_counter() - start, 2)}))


def _reward_options() -> dict:
  from posttrain_jax.types import InputError

  try:
    options = json.loads(_REWARD_OPTIONS.value)
  except ValueError:
    options = None
  if not isinstance(options, dict):
    raise InputError(f"--reward_options={_REWARD_OPTIONS.value}: expected a JSON object, such as '{{\"limit\": 20}}'")
  return options


if __name__ == "__main__":
  flags.run_plain(main, required=["model", "task"], groups=_GROUPS)
