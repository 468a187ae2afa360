"""Asks a model whether answers do what was asked, or refuse.

The probability of a statement is normalised over the two letters, and averaged over both orders of the statements.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from posttrain_jax.data.verdict_question import VerdictQuestion
from posttrain_jax.evaluation.text_model import TextModel


@dataclasses.dataclass(frozen=True)
class Opinions:
  """Holds what a judge says of answers.

  Attributes:
    complies: float64 [N], probability that an answer does what was asked, averaged over both orders.
    same: bool [N], whether the judge says the same in both orders.
  """

  complies: np.ndarray
  same: np.ndarray

  @property
  def yes(self) -> np.ndarray:
    """Returns where an answer more likely complies than not, bool [N]."""
    return self.complies > 0.5


class ComplianceJudge:
  """Asks one model about many answers."""

  def __init__(self, model: TextModel, question: VerdictQuestion, *, longest: int):
    """Takes the model.

    Args:
      model: the judge.
      question: how it is asked.
      longest: characters of a prompt and of an answer that the judge reads at most; the rest is cut.
    """
    self._model, self._question, self._longest = model, question, longest

  def __call__(self, answers: Sequence[tuple[str, str]]) -> Opinions:
    """Judges (prompt, answer) pairs."""
    straight, swapped = self._first(answers, swapped=False), 1 - self._first(answers, swapped=True)
    return Opinions((straight + swapped) / 2, (straight > 0.5) == (swapped > 0.5))

  def _first(self, answers: Sequence[tuple[str, str]], *, swapped: bool) -> np.ndarray:
    """Returns the probabilities of the first statement."""
    asked = self._question
    texts = [asked.ask(self._shown(prompt), self._shown(answer), swapped=swapped) for prompt, answer in answers]
    if asked.begun is None:
      found = self._model.logprobs(texts, asked.letters)
    else:
      begun = {"role": "assistant", "content": asked.begun}
      found = self._model.chat_logprobs([[{"role": "user", "content": text}, begun] for text in texts], asked.letters)
    found = found.astype(np.float64)
    return 1 / (1 + np.exp(found[:, 1] - found[:, 0]))

  def _shown(self, text: str) -> str:
    # An answer that spells a control token would speak for the judge.
    return text[: self._longest].replace("<|", "< |").strip()
