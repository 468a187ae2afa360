"""Evaluates a saved policy on a file of problems, as the training loops do."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from posttrain_jax.assembly.judges import RewardFunctionSettings, RewardSettings, make_judge, make_workers
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.prompts import PromptSettings, Task
from posttrain_jax.assembly.references import check_references
from posttrain_jax.assembly.rollout_engine import SamplingSettings
from posttrain_jax.data.arithmetic import Split
from posttrain_jax.data.prompts import OverLimit, PromptFormat
from posttrain_jax.evaluation.answer_calibration import answer_calibration
from posttrain_jax.evaluation.answers import split_accuracy
from posttrain_jax.evaluation.evaluator import Evaluator, SetSettings, SetsSettings
from posttrain_jax.evaluation.public_benchmarks import Benchmark
from posttrain_jax.evaluation.variety import variety
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.rewards.extract import find_answer
from posttrain_jax.rewards.failures import FailureLimit
from posttrain_jax.rewards.judge import TimedOut
from posttrain_jax.types import Group, InputError

_NO_LIMIT = 2**31 - 1
_HELD_OUT_PER_DIFFICULTY = 40  # as in the tiny configs, so that the numbers can be compared


def evaluate(
  policy: Policy,
  benchmark: Benchmark,
  path: str = "",
  *,
  limit: int = 0,
  slots: int = 64,
  seed: int = 0,
  judges: int = 1,
  prompt_format: PromptFormat | None = None,
) -> tuple[dict[str, Any], list[Group]]:
  """Samples and judges answers to all problems, on all devices.

  Args:
    policy: from `open_policy`.
    benchmark: how to ask, sample and judge.
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT; may be empty where the benchmark has a procedural task.
    limit: the first so many problems only; 0 for all.
    slots: answers drawn at the same time; divides over the devices.
    seed: of the draws.
    judges: worker processes that run the verifier.
    prompt_format: how problems are asked; None: in the benchmark's template, and as the user's turn if the tokeniser
      has a chat template.

  Returns:
    (metrics as of `evaluation.answers.evaluate`, with the accuracies of `benchmark.split_by`, the calibration of what
      the answers claim, and the variety of each problem's answers; the judged groups). With a reward function of one's
      own, `reward` is the mean of its values, which the accuracies have cut to [0, 1].

  Raises:
    InputError: if problems or settings are not fit for use, before anything is compiled.
  """
  if not path and benchmark.procedural is None:
    raise InputError("--path: missing, expected FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT")
  mesh = make_mesh({"data": -1})
  problems = SetSettings(
    prompts=_problems(prompt_format or usual_format(policy, benchmark), benchmark, path, limit),
    samples=benchmark.samples,
    greedy=True,
    sampling=SamplingSettings(
      temperature=benchmark.temperature,
      top_p=benchmark.top_p,
      top_k=0,
      min_p=0.0,
      stop_ids=benchmark.stop_ids,
      stop_strings=benchmark.stop_strings,
    ),
  )
  section = SetsSettings(
    answer_style=benchmark.style,
    slots=slots,
    max_prompt_length=_NO_LIMIT,
    max_new_tokens=benchmark.max_new_tokens,
    sets={"problems": problems},
  )
  with make_workers(_rewards(benchmark, judges)) as workers:
    judge = make_judge(workers, policy.tokenizer, accuracy="correct", failures=FailureLimit(1.0))
    evaluator = Evaluator(section, policy, judge, seed=seed, mesh=mesh)
    if benchmark.options is not None:  # a function of one's own, whose values may lie outside [0, 1]
      evaluator.reward = _given_rewards
    check_references(workers, evaluator.sets["problems"].prompts)
    hand_over = make_handover(
      policy.params, num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=mesh
    )
    metrics, found = evaluator(hand_over(policy.params), 0)
  groups = found["problems"]
  more = split_accuracy(groups, benchmark.split_by, seed=seed)
  if benchmark.options is None:  # answers that are right or wrong, and no reward
    more |= answer_calibration(groups, functools.partial(find_answer, style=benchmark.style), seed=seed)
  more |= variety(groups, vocabulary=policy.tokenizer.vocab_size, seed=seed)
  return {name.removeprefix("eval/problems/"): value for name, value in metrics.items()} | more, groups


def _given_rewards(groups: Sequence[Group]) -> list[np.ndarray]:
  """Returns the rewards of each group's answers with a verdict; NaN for a group without one."""
  return [group.rewards[group.valid] if group.valid.any() else np.array([np.nan]) for group in groups]


def usual_format(policy: Policy, benchmark: Benchmark) -> PromptFormat:
  """Returns how a benchmark's problems are put to a model whose training is not known."""
  return PromptFormat(template=benchmark.template, chat=policy.tokenizer.chat_template is not None)


def _problems(asked: PromptFormat, benchmark: Benchmark, path: str, limit: int) -> PromptSettings:
  return PromptSettings(
    path=path,
    task=benchmark.procedural or Task.CHAINS,
    split=Split.HELD_OUT,
    per_difficulty=_HELD_OUT_PER_DIFFICULTY,
    seed=0,
    template=asked.template,
    chat=asked.chat,
    system=asked.system or "",
    chat_arguments=asked.chat_arguments,
    left_out=asked.left_out,
    over_limit=OverLimit.ERROR,
    limit=limit,
  )


def _rewards(benchmark: Benchmark, judges: int) -> RewardSettings:
  options = {"style": str(benchmark.style)} if benchmark.options is None else benchmark.options
  correct = RewardFunctionSettings(function=benchmark.verifier, weight=1.0, options=options)
  return RewardSettings(
    accuracy="correct",
    workers=judges,
    batch_seconds=60.0,
    answer_seconds=10.0,
    timed_out=TimedOut.INVALID,
    max_failures=1.0,
    functions={"correct": correct},
  )
