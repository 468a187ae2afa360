"""Makes preferences about chain arithmetic from graded answers.

The crowd of `data.demonstrations` writes the answers. A grader looks at the result first, then at the work:

3  right, without doubts;
2  right, after doubting and starting again;
1  wrong, but worked out;
0  wrong, and not worked out.

If two answers have the same grade, the shorter one is negligibly better. If the grades differ by one, two or three, the
strength is slightly, better or significantly. So preferences follow correctness first and brevity second.
"""

import enum
import random
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data import demonstrations
from posttrain_jax.data.demonstrations import CAREFUL_CROWD, USUAL_CROWD, Crowd
from posttrain_jax.data.preference_rows import Strength
from posttrain_jax.types import InputError

_BY_GAP = (Strength.NEGLIGIBLY, Strength.SLIGHTLY, Strength.BETTER, Strength.SIGNIFICANTLY)


class GradingForm(enum.StrEnum):
  """Names the grader's task, which gives a form of rows (`data.preference_rows`, `data.labelled_rows`)."""

  PAIR = "pair"  # the better of two answers, and by how much
  EDITED = "edited"  # the same, and then an answer that the grader writes: right, worked out once
  RANKING = "ranking"  # all answers from the best to the worst
  SINGLE = "single"  # of each answer by itself whether it is right


def grade(completion: str, answer: str) -> int:
  """Grades an answer from 0 to 3.

  Args:
    completion: the text, without an end token.
    answer: the right result, one digit.
  """
  if completion.endswith(f" Answer: {answer}"):
    return 2 if " Wait, " in completion else 3
  return 1 if "=" in completion else 0


def graded_answers(
  problems: Sequence[Mapping[str, Any]],
  *,
  form: GradingForm = GradingForm.PAIR,
  answers: int = 2,
  noise: float = 0.0,
  crowd: Crowd = USUAL_CROWD,
  seed: int = 0,
) -> tuple[list[dict[str, Any]], int]:
  """Lets the crowd answer problems and a grader compare the answers.

  Args:
    problems: rows with "prompt", "answer" and "difficulty" (`arithmetic.problems`).
    form: the grader's task.
    answers: number of answers to each problem: 2, or more in a ranking; single ones may be 1. A new person is drawn for
      each of them.
    noise: probability that the grader errs. Such a grader swaps the two answers and keeps the strength. In a
      ranking, each pair of neighbours may be swapped, from the best one on. An edited answer always stays the best. The
      label of a single answer is turned around.
    crowd: the people who write the answers.
    seed: seed of all draws. The answers do not depend on `form` and `noise`.

  Returns:
    (rows, number of problems left out). Rows have the columns of the problem and those of their form. A problem is left
    out if no answer is better than another. In the form EDITED it is also left out if the chosen answer has grade 3, so
    that there is nothing to edit, or if the edited answer equals the rejected one.

  Raises:
    InputError: if the form does not have so many answers, or if `noise` is not between 0 and 1.
  """
  single, many = form == GradingForm.SINGLE, form in (GradingForm.SINGLE, GradingForm.RANKING)
  if answers < 2 - single or (answers > 2 and not many):
    raise InputError(
      f"graded answers: {answers} answers for the form {form}, expected 2, more for a ranking, 1 or more single ones"
    )
  if not 0 <= noise <= 1:
    raise InputError(f"graded answers: noise is {noise}, expected a probability")
  written = demonstrations.demonstrations(problems, crowd=crowd, copies=answers, seed=seed)
  rng = random.Random(f"{seed}/grader")
  if single:
    return [_labelled(row, errs=rng.random() < noise) for row in written], 0
  rows = []
  for i, problem in enumerate(problems):
    texts = [row["completion"] for row in written[i :: len(problems)]]
    scores = [(grade(text, problem["answer"]), -len(text)) for text in texts]
    order = sorted(set(scores), reverse=True)  # best first; equal scores are ties
    errs = [rng.random() < noise for _ in order[1:]]
    if len(order) == 1:
      continue
    gap = order[0][0] - order[-1][0]
    for place, err in enumerate(errs):
      if err:
        order[place : place + 2] = reversed(order[place : place + 2])
    if form == GradingForm.RANKING:
      rows.append({**problem, "answers": texts, "ranks": [order.index(score) for score in scores]})
      continue
    chosen, rejected = (texts[scores.index(score)] for score in order)
    row = {**problem, "chosen": chosen, "rejected": rejected, "strength": str(_BY_GAP[gap])}
    if form == GradingForm.EDITED:
      if grade(chosen, problem["answer"]) == 3:
        continue
      row["edited"] = demonstrations.demonstrations([problem], crowd=CAREFUL_CROWD)[0]["completion"]
      if row["edited"] == rejected:  # the grader erred: the better answer was rejected
        continue
    rows.append(row)
  return rows, len(problems) - len(rows)


def _labelled(row: Mapping[str, Any], *, errs: bool) -> dict[str, Any]:
  return {**row, "label": (grade(row["completion"], row["answer"]) >= 2) != errs}
