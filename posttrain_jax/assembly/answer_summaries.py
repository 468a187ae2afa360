"""Shows a reward model the summaries of answers that think first.

R1 (arXiv:2501.12948, section 2.3.4) judges how helpful an answer is by its summary alone, so that the reasoning stays
free, and how harmless it is by the whole answer. The row of a prompt says which of the two is meant.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from posttrain_jax.assembly.judges import ScoreGroups
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import Group

JUDGED = "judged"  # column of a prompt's row
SUMMARY = "summary"  # its value where only the summary is judged


def of_summaries(score: ScoreGroups, tokenizer: Tokenizer, after: str) -> ScoreGroups:
  """Makes a scorer that sees only the summaries of those groups whose row asks for it.

  Args:
    score: scores answers.
    tokenizer: the one that the answers are in.
    after: what ends the reasoning, as "</think>". An answer without it is a summary as a whole.
  """

  def scores(groups: Sequence[Group]) -> list[np.ndarray]:
    return score([_summarized(group, tokenizer, after) if is_summary_judged(group) else group for group in groups])

  return scores


def is_summary_judged(group: Group) -> bool:
  """Tells whether a group's row asks that only summaries are judged."""
  return group.prompt.row.get(JUDGED) == SUMMARY


def summary_start(tokenizer: Tokenizer, tokens: np.ndarray, after: str) -> int:
  """Returns the index of the first token after the last end of reasoning.

  Tokens are cut, never encoded anew. If the text that ends the reasoning ends within a token, that token is left out.

  Args:
    tokenizer: decodes them.
    tokens: int [n], an answer.
    after: what ends the reasoning.

  Returns:
    The index, up to n; 0 if nothing ends the reasoning.
  """
  ends = tokenizer.decode(tokens).count(after)
  if not ends:
    return 0
  low, high = 0, len(tokens)  # fewer than all ends are in the first `low` tokens, and all are in the first `high`
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (low, middle) if tokenizer.decode(tokens[:middle]).count(after) == ends else (middle, high)
  return high


def _summarized(group: Group, tokenizer: Tokenizer, after: str) -> Group:
  answers = [
    dataclasses.replace(answer, tokens=answer.tokens[summary_start(tokenizer, answer.tokens, after) :])
    for answer in group.answers
  ]
  return dataclasses.replace(group, answers=tuple(answers))
