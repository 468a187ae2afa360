"""Tells which principle of a constitution speaks of what is asked about.

First the pretrained model says what it knows of a request's device, as a plain text without request and answer. Then a
principle fits by how much likelier this makes it, under a critic that was trained to name principles, than after "a
zorp is safe". A model of this size can name and quote a principle; to compare two texts it did not learn.
"""

from collections.abc import Callable, Sequence

import numpy as np

from posttrain_jax.data.assistant_world import critiques, words
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.constitution import Constitution, Principle
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.types import InputError

LEAST = 1.0  # nats by which what is known must make a principle likelier, for it to speak of that
_PROMPT, _KNOWN = 16, 12  # limits in tokens of what is recalled


class Recall:
  """Asks the pretrained model what it knows."""

  def __init__(self, path: str, *, seed: int, slots: int):
    """Loads the model.

    Args:
      path: PATH_OR_NAME.
      seed: of the draws.
      slots: texts drawn at the same time.
    """
    self._model = TextModel(path, seed=seed, slots=slots, max_prompt_length=_PROMPT, max_new_tokens=_KNOWN)

  def known(self, requests: Sequence[WorldRequest]) -> tuple[list[str], int]:
    """Draws a sentence about each request's topic.

    Returns:
      (the sentences, without their points; tokens drawn).
    """
    said, count = self._model.draw([critiques.recall_prompt(request) for request in requests])
    return [critiques.read_recall(request, text) for request, text in zip(requests, said)], count


def fits(
  logprobs: Callable[[Sequence[str], Sequence[str]], np.ndarray],
  requests: Sequence[WorldRequest],
  known: Sequence[str],
  principles: Sequence[Principle],
) -> np.ndarray:
  """Computes how much likelier what is known makes each principle.

  Args:
    logprobs: texts and endings to the logprobs of the endings after each text, float [texts, endings].
    requests: what was asked.
    known: what is known of each.
    principles: those that may fit.

  Returns:
    float [requests, principles], in nats.
  """
  texts = [*known, *(f"{critiques.recall_prompt(request)} safe" for request in requests)]
  different = list(dict.fromkeys(texts))
  prompts = [critiques.naming_prompt(text) for text in different]
  found = np.stack([logprobs(prompts, (f"{each.says} .",))[:, 0] for each in principles], axis=1)
  places = {text: i for i, text in enumerate(different)}
  rows = found[[places[text] for text in texts]]
  return rows[: len(known)] - rows[len(known) :]


def speaking(found: np.ndarray) -> int | None:
  """Returns which principle fits best; None if what is known makes none likelier by `LEAST`."""
  best = int(np.argmax(found))
  return best if found[best] >= LEAST else None


def about_harm(constitution: Constitution) -> list[Principle]:
  """Returns the principles about categories of harm.

  Raises:
    InputError: if there is none.
  """
  harms = {harm.name for harm in words.HARMS}
  found = [each for each in constitution.principles if harms & {*each.about}]
  if not found:
    raise InputError("constitution: no principle is about a category of harm, expected some")
  return found
