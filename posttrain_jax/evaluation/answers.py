"""Evaluates a policy on problems with checkable answers: avg@k, pass@k, maj@k.

An evaluation set has its own engine, so it has its own temperature and truncation. The engine's draws depend on
(seed, prompt, sample, attempt) only. So evaluations at two steps of a run share their random numbers, and only the
policy differs between them.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from posttrain_jax.evaluation import metrics
from posttrain_jax.rewards import equality
from posttrain_jax.types import Group, InputError, Prompt

Generate = Callable[[Sequence[Prompt], int], list[Group]]  # `Engine.generate`
DIFFICULTY = "difficulty"  # the column of a data row that accuracy is split by


def evaluate(
  generate: Generate,
  judge: Callable[[Sequence[Group]], list[Group]],
  prompts: Sequence[Prompt],
  samples: int,
  *,
  extract: Callable[[str], str | None],
  greedy: Generate | None = None,
  seed: int = 0,
  per_problem: bool = False,
) -> tuple[dict[str, Any], list[Group]]:
  """Draws and judges `samples` answers per prompt.

  Args:
    generate: draws one group per prompt, in the prompts' order, with the set's sampling settings.
    judge: fills in `texts`, `accuracy` and `valid`.
    prompts: the evaluation set.
    samples: k, answers per prompt.
    extract: returns the final answer of a text, for voting. Answers count as equal if they are the same number, or if
      their texts differ in typesetting only.
    greedy: as `generate`, at temperature 0; None leaves the metric `greedy` out.
    seed: seed of the bootstrap.
    per_problem: whether to report the scores of every problem as well.

  Returns:
    Metrics under plain names, and the judged groups. With k = samples:
      avg@k, maj@k, pass@1, pass@2, pass@4, … and pass@k, each with `_low` and `_high`, the 95 % interval over problems;
      avg@k_stderr: standard error over problems;
      difficulty/<value>/avg@k, with interval, for each value of the rows' `difficulty`;
      greedy: accuracy of the greedy answer, with interval;
      length: mean answer length in tokens; truncated: share of answers that ran into the cap;
      no_answer: share of answers from which nothing could be extracted;
      invalid: answers without a verdict, the greedy ones included; they count in no accuracy;
      problems: prompts with at least one verdict;
      per_problem/<name>: of avg@k, maj@k, pass@k and greedy, one score a prompt in the prompts' order.
    Accuracies are NaN when no answer has a verdict.

  Raises:
    InputError: if there are no prompts, or if samples is below 1.
  """
  if not prompts:
    raise InputError("evaluation set: found no prompts, expected at least one")
  if samples < 1:
    raise InputError(f"eval.samples: {samples}, expected at least 1")

  groups = judge(generate(prompts, samples))
  judgements = _judgements(groups)
  answers = [[extract(text) for text in group.texts] for group in groups]
  votes = [[_vote(answer) for answer in row] for row in answers]

  average = metrics.avg_at_k(judgements)
  scores = {f"avg@{samples}": average, f"maj@{samples}": metrics.maj_at_k(votes, judgements)}
  scores |= {f"pass@{k}": metrics.pass_at_k(judgements, k) for k in _powers_of_two(samples)}
  difficulty = [str(group.prompt.row.get(DIFFICULTY, "")) for group in groups]
  for level in sorted(set(difficulty) - {""}):
    scores[f"{DIFFICULTY}/{level}/avg@{samples}"] = average[[each == level for each in difficulty]]
  invalid = metrics.invalid_count(judgements)
  if greedy is not None:
    greedy_judgements = _judgements(judge(greedy(prompts, 1)))
    scores["greedy"] = metrics.avg_at_k(greedy_judgements)
    invalid += metrics.invalid_count(greedy_judgements)

  result = {}
  for name, values in scores.items():
    estimate = metrics.estimate(values, seed=seed)
    result |= {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    if name == f"avg@{samples}":
      result |= {f"{name}_stderr": estimate.standard_error, "problems": estimate.problems}
  if per_problem:
    asked = (f"avg@{samples}", f"maj@{samples}", f"pass@{samples}", "greedy")
    result |= {f"per_problem/{name}": scores[name].tolist() for name in asked if name in scores}
  result["length"] = float(np.mean([group.lengths for group in groups]))
  result["truncated"] = float(np.mean([group.truncated for group in groups]))
  result["no_answer"] = float(np.mean([[answer is None for answer in row] for row in answers]))
  result["invalid"] = invalid
  return result, groups


def split_accuracy(groups: Sequence[Group], columns: Sequence[str], *, seed: int = 0) -> dict[str, float]:
  """Computes the accuracy of the prompts that share a value in a column of their rows.

  Args:
    groups: judged ones.
    columns: names of columns; a row without one is left out.
    seed: of the bootstrap.

  Returns:
    COLUMN/VALUE/avg@k, with `_low` and `_high`, the 95 % interval over prompts; k samples.
  """
  average, result = metrics.avg_at_k(_judgements(groups)), {}
  for column in columns:
    values = [str(group.prompt.row.get(column, "")) for group in groups]
    for value in sorted(set(values) - {""}):
      found = metrics.estimate(average[[each == value for each in values]], seed=seed)
      name = f"{column}/{value}/avg@{len(groups[0].answers)}"
      result |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
  return result


def _judgements(groups: Sequence[Group]) -> np.ndarray:
  return np.stack([np.where(group.valid, group.accuracy.astype(np.float64), np.nan) for group in groups])


def _vote(answer: str | None) -> Hashable | None:
  return None if answer is None else equality.canonical(answer)


def _powers_of_two(samples: int) -> list[int]:
  return sorted({samples, *(1 << power for power in range(samples.bit_length()))})
