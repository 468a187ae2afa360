"""Makes training data for a judge that writes its reasons, then a score.

Such a judge is a generative reward model and is trained by SFT. DeepSeek-V3 (arXiv:2412.19437, §5.2.1) trains its
reward model on data that contain the chain of thought before the reward. There are two ways to read a judgement.
`parse_score` reads the text. `expected_score` reads the probabilities of the score's token, and gives a finer number
from one forward pass.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.data import arithmetic
from posttrain_jax.data.demonstrations import SYMBOLS, USUAL_CROWD, Crowd, demonstrations
from posttrain_jax.data.prompts import Row
from posttrain_jax.types import InputError

TEMPLATE = """Judge how well the answer below serves the one who asked.

<question>
{prompt}
</question>

<answer>
{answer}
</answer>

Say first what is right and what is wrong with it. Then end with a line "Score: N".
N is a whole number from {low} (useless) to {high} (could not be better)."""

# Judgements of chain arithmetic need one more symbol. It comes last, so the other tokens keep their ids.
SCORE = " Score: "
JUDGE_SYMBOLS = (*SYMBOLS, SCORE)

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wording:
  """Says how a judge is asked, and what it writes before its score.

  Attributes:
    template: the question. "{prompt}" and "{answer}" stand for what is judged, "{low}" and "{high}" for the worst and
      the best score.
    mark: text between the reasons and the score, with the white space around it.
  """

  template: str
  mark: str

  def __post_init__(self):
    """Raises InputError if the question lacks the answer, or if the mark is empty."""
    if "{answer}" not in self.template:
      raise InputError(f"wording.template: {self.template!r} has no '{{answer}}'")
    if not self.mark.strip():
      raise InputError(f"wording.mark: {self.mark!r}, expected a text, such as 'Score: '")

  @property
  def shown_mark(self) -> str:
    """Returns the mark without the white space around it, as a score is found by it."""
    return self.mark.strip()


ENGLISH = Wording(template=TEMPLATE, mark="\nScore: ")
ARITHMETIC = Wording(template="{prompt}{answer} Wait, ", mark=SCORE)  # of chain arithmetic


def judgement_prompt(
  prompt: str | Sequence[Mapping[str, Any]], answer: str, *, low: int, high: int, wording: Wording = ENGLISH
) -> str:
  """Returns the question for a judge.

  Args:
    prompt: the prompt of the answer: text, or the chat so far.
    answer: the answer to judge.
    low: the worst score.
    high: the best score.
    wording: how the judge is asked.
  """
  if not isinstance(prompt, str):
    prompt = "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
  fields = {"prompt": prompt, "answer": answer, "low": str(low), "high": str(high)}
  # All fields are replaced in one pass, because an answer may contain "{low}" or the like.
  return re.sub(r"\{(prompt|answer|low|high)\}", lambda match: fields[match[1]], wording.template)


def judgements(rows: Iterable[Row], *, low: int, high: int, wording: Wording = ENGLISH) -> list[Row]:
  """Makes demonstrations of judging from scored answers or from comparisons.

  Args:
    rows: scored answers with "prompt", "answer", "score" and optionally "rationale"; or comparisons with "prompt",
      "chosen", "rejected" and optionally "chosen_rationale" and "rejected_rationale". A chosen answer scores `high`, a
      rejected answer `low`.
    low: the worst score.
    high: the best score.
    wording: how the judge is asked, and how it writes a score.

  Returns:
    Rows of "prompt", "completion" and "label". The completion is the rationale, if there is one, then the score. The
    label is the score.

  Raises:
    InputError: if a row has other columns, a text column is not text, or a score is not a whole number from `low` to
      `high`.
  """
  found = []
  for row in rows:
    columns = row.columns
    if "answer" in columns and "score" in columns:
      judged = [("answer", "rationale", columns["score"])]
    elif "chosen" in columns and "rejected" in columns:
      judged = [("chosen", "chosen_rationale", high), ("rejected", "rejected_rationale", low)]
    else:
      raise InputError(
        f"{row.source}: found columns {', '.join(columns) or 'none'}; expected 'answer' and 'score' or 'chosen' and "
        "'rejected'"
      )
    if not isinstance(columns.get("prompt"), str | list):
      raise InputError(f"{row.source}: prompt is {columns.get('prompt')!r}, expected text or a list of messages")
    for answer, rationale, score in judged:
      reasons = columns.get(rationale) or ""
      for field, text in ((answer, columns[answer]), (rationale, reasons)):
        if not isinstance(text, str):
          raise InputError(f"{row.source}: {field} is {text!r}, expected text")
      if isinstance(score, bool) or not isinstance(score, int) or not low <= score <= high:
        raise InputError(f"{row.source}: score is {score!r}, expected a whole number from {low} to {high}")
      prompt = judgement_prompt(columns["prompt"], columns[answer], low=low, high=high, wording=wording)
      completion = f"{reasons.strip()}{wording.mark}{score}".lstrip("\n")
      found.append(Row({"prompt": prompt, "completion": completion, "label": score}, row.source))
  return found


def arithmetic_judgements(
  problems: Sequence[Mapping[str, Any]], *, crowd: Crowd = USUAL_CROWD, copies: int = 1, seed: int = 0
) -> list[dict[str, Any]]:
  """Makes judgements of the crowd's answers to chain arithmetic.

  All text is in the alphabet JUDGE_SYMBOLS. "7+8-2=" answered with " Answer: 5" gives the prompt
  "7+8-2= Answer: 5 Wait, " and the completion "+8=5-2=3 Score: 0". The judge works the problem out again, then writes 1
  for a right answer and 0 for a wrong one.

  Args:
    problems: rows with "prompt", "answer" and "difficulty" (`arithmetic.problems`).
    crowd: the people who write the answers.
    copies: answers to each problem.
    seed: seed of all draws.

  Returns:
    The problems' rows with "prompt", "completion" and "label" (0 or 1) of the judgement.
  """
  rows = []
  for written in demonstrations(problems, crowd=crowd, copies=copies, seed=seed):
    label = int(written["completion"].rpartition(" Answer: ")[2] == written["answer"])
    _, steps = arithmetic.terms(written["prompt"])
    rationale = "".join(f"{term}={value}" for term, value in zip(steps, arithmetic.working(written["prompt"])))
    prompt = judgement_prompt(written["prompt"], written["completion"], low=0, high=1, wording=ARITHMETIC)
    rows.append({**written, "prompt": prompt, "completion": f"{rationale}{SCORE}{label}", "label": label})
  return rows


def before_score(mark: str) -> re.Pattern[str]:
  """Returns the pattern of a mark that no letter or digit joins from the left."""
  return re.compile(rf"(?<!\w){re.escape(mark)}")


def parse_score(text: str, *, low: float, high: float, mark: str = ENGLISH.shown_mark) -> float | None:
  """Reads the score at the end of a judgement.

  The last line with the mark counts. One decimal number in ASCII digits has to follow, and nothing else. Several scores
  on that line, "7/10", "seven" or a number out of range are not a score.

  Args:
    text: the judge's text, without special tokens.
    low: the worst score.
    high: the best score.
    mark: what stands before a score, such as "Score:".

  Returns:
    The score, or None if the text has no score.
  """
  pattern = before_score(mark)
  lines = [line for line in text.split("\n") if pattern.search(line)]
  if not lines:
    return None
  _, *found = pattern.split(lines[-1])
  number = found[0].strip(" \t\r")
  if len(found) > 1 or not _NUMBER.fullmatch(number):
    return None
  score = float(number)
  return score if low <= score <= high else None


def expected_score(logprobs: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray) -> float:
  """Computes the mean score under the judge's probabilities of the score tokens.

  Σ_s v_s exp(l_s) / Σ_s exp(l_s)

  The sums run over the scores' tokens only: all other tokens are left out.

  Args:
    logprobs: [S], the logprob of each score's token at the score's position. Logits give the same result.
    values: [S], the scores.

  Returns:
    The expected score. NaN means no verdict: a logprob is NaN, or all are −∞.

  Raises:
    InputError: if `logprobs` and `values` are not both [S] with S >= 1.
  """
  logprobs, values = np.asarray(logprobs, np.float64), np.asarray(values, np.float64)
  if logprobs.shape != values.shape or logprobs.ndim != 1 or not logprobs.size:
    raise InputError(f"expected_score: logprobs {logprobs.shape} and values {values.shape}, expected both [S]")
  if not np.isfinite(logprobs.max()):
    return float("nan")
  weights = np.exp(logprobs - logprobs.max())
  return float(weights @ values / weights.sum())
