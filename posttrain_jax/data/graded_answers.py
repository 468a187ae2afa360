"""Preferences about chain arithmetic: answers of the crowd of `data.demonstrations`, compared by their grades.

A grader looks at the result first, and at the way to it second:

3  right, without doubts;
2  right, after doubting and starting again;
1  wrong, but worked out;
0  wrong, and not worked out.

Of two answers with one grade the shorter is better, negligibly; between grades the strength is slightly, better or
significantly, for a gap of one, two or three. So preferences agree with correctness and, beyond it, favour brevity.
"""

import enum
import random
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data import demonstrations
from posttrain_jax.data.demonstrations import Crowd
from posttrain_jax.data.preference_rows import Strength
from posttrain_jax.types import InputError

_USUAL = Crowd()
_EDITOR = Crowd(careful=(1.0,), rambling=(0.0,), slip=0.0)
_BY_GAP = (Strength.NEGLIGIBLY, Strength.SLIGHTLY, Strength.BETTER, Strength.SIGNIFICANTLY)


class Form(enum.StrEnum):
  """What is asked of the grader; the forms of rows of `data.preference_rows`."""

  PAIR = "pair"  # the better of two answers, and by how much
  EDITED = "edited"  # the same, and then to write a better one: right, worked out once
  RANKING = "ranking"  # all answers from the best to the worst


def grade(completion: str, answer: str) -> int:
  """Grade of what somebody wrote, from 0 to 3.

  Args:
    completion: the text, without an end token.
    answer: the right result.
  """
  if completion.endswith(f" Answer: {answer}"):
    return 2 if " Wait, " in completion else 3
  return 1 if "=" in completion else 0


def graded_answers(
  problems: Sequence[Mapping[str, Any]],
  *,
  form: Form = Form.PAIR,
  answers: int = 2,
  noise: float = 0.0,
  crowd: Crowd = _USUAL,
  seed: int = 0,
) -> tuple[list[dict[str, Any]], int]:
  """Has the crowd answer problems, and the answers compared.

  Args:
    problems: rows with "prompt", "answer" and "difficulty" (`arithmetic.problems`).
    form: what the grader does.
    answers: of each problem, each by somebody drawn anew; 2 unless a ranking is asked for.
    noise: probability that a grader errs: takes the worse of two answers for the better one, with the strength that
      the other order would have; in a ranking this happens to neighbours, from the best on. Edited answers stay best.
    crowd: who answers.
    seed: of all draws. Which answers there are does not depend on `form` and `noise`.

  Returns:
    (rows, number of problems left out: no answer is better than another, or there is nothing to edit in the chosen
    one). Rows have the columns of the problem and those of their form.

  Raises:
    InputError: fewer than two answers, more than two but no ranking, or a noise that is no probability.
  """
  if answers < 2 or (answers > 2 and form != Form.RANKING):
    raise InputError(f"graded answers: {answers} answers for the form {form}, expected 2, or more for a ranking")
  if not 0 <= noise <= 1:
    raise InputError(f"graded answers: noise is {noise}, expected a probability")
  written = demonstrations.demonstrations(problems, crowd=crowd, copies=answers, seed=seed)
  rng = random.Random(f"{seed}/grader")
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
    if form == Form.RANKING:
      rows.append({**problem, "answers": texts, "ranks": [order.index(score) for score in scores]})
      continue
    chosen, rejected = (texts[scores.index(score)] for score in order)
    row = {**problem, "chosen": chosen, "rejected": rejected, "strength": str(_BY_GAP[gap])}
    if form == Form.EDITED:
      if grade(chosen, problem["answer"]) == 3:
        continue
      row["edited"] = demonstrations.demonstrations([problem], crowd=_EDITOR)[0]["completion"]
      if row["edited"] == rejected:  # the better one, taken for the worse
        continue
    rows.append(row)
  return rows, len(problems) - len(rows)
