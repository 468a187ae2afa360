"""Makes comparisons of answers to one prompt, as token ids.

Reward models and direct preference methods learn from comparisons, KTO also from single answers with a label.
`data.preference_rows` and `data.labelled_rows` describe the forms of rows that are read. `data.preference_tokens`
describes how they become tokens.
"""

import collections
import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.data.preference_rows import BadRow, Judgement, Strength, judgement, opening
from posttrain_jax.data.preference_tokens import AnswerEncoder
from posttrain_jax.data.prompts import PromptFormat, Row
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError


class BadRows(enum.StrEnum):
  """Lists the actions on a row that is not a comparison."""

  ERROR = "error"  # raise an error that names the row
  DROP = "drop"  # leave the row out and count it


class TooLongComparison(enum.StrEnum):
  """Lists the actions on a comparison over a limit on tokens."""

  ERROR = "error"  # raise an error that names the row
  DROP = "drop"  # leave the comparison out and count it
  CUT_PROMPT = "cut_prompt"  # cut the prompt's beginning; drop long answers, since a cut answer is another answer


class Margins(enum.StrEnum):
  """Lists the scales of a reward model's margin between two answers.

  The values are those of Llama 2 (arXiv:2307.09288, table 27).
  """

  NONE = "none"  # 0 for all
  SMALL = "small"  # 1, 2/3, 1/3, 0 from significantly to negligibly
  LARGE = "large"  # 3, 2, 1, 0 from significantly to negligibly

  def of(self, strength: Strength) -> float:
    """Returns the margin of a strength."""
    steps = len(Strength) - 1 - list(Strength).index(strength)
    return {Margins.NONE: 0.0, Margins.SMALL: steps / 3, Margins.LARGE: float(steps)}[self]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Holds K answers to one prompt and their ranks, or a single answer and its label.

  Attributes:
    prompt: token ids.
    answers: K >= 2 arrays, int32 [n], each with its end token. A single answer may stand alone.
    ranks: rank of each answer. A lower rank is better, equal ranks are a tie, None means not judged.
    strength: how much better the second worst rank is than the worst rank; None: not known. An edited answer is better
      than the two answers that were compared, so these two still have the worst ranks.
    source: "FILE:LINE" or "NAME, row N". Error messages name it, and pairs with one source come from one row.
    row: the columns of the row.
    ends: number of tokens that only end an answer, for each answer: 1, or 0 for an answer that was cut off. None: 1 for
      each.
    probability: that the better answer of two is the better one; None: 1. Only the reward model's loss reads it.
    desirable: whether a single answer, the first one, is good; None if answers are compared.
  """

  prompt: tuple[int, ...]
  answers: tuple[np.ndarray, ...]
  ranks: tuple[int | None, ...]
  strength: Strength | None = None
  source: str = "comparison"
  row: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  ends: tuple[int, ...] | None = None
  probability: float | None = None
  desirable: bool | None = None

  def __post_init__(self):
    """Checks that a loss can be computed.

    Raises:
      BadRow: if the prompt or an answer is empty, if there are fewer than two answers or not as many ranks, if no
        answer is better than another, or if an answer equals one that it is better than.
    """
    if not self.prompt:
      raise BadRow("empty_prompt", "the prompt has no token")
    if len(self.answers) < 2 - self.is_single or len(self.ranks) != len(self.answers):
      raise BadRow("bad_ranks", f"{len(self.answers)} answers with {len(self.ranks)} ranks, expected two or more")
    for i, answer in enumerate(self.answers):
      if not len(answer):
        raise BadRow("empty_answer", f"answer {i} has no token, not even one that ends it")
    if not self.beaten() and not self.is_single:
      raise BadRow("all_tied", f"no answer is better than another among ranks {self.ranks}")
    for i, j in self.beaten():
      if np.array_equal(self.answers[i], self.answers[j]):
        raise BadRow("equal_answers", f"answers {i} and {j} are equal, but one is said to be better than the other")

  @property
  def is_single(self) -> bool:
    """Tells whether one answer has a label, and nothing is compared."""
    return self.desirable is not None

  def beaten(self) -> list[tuple[int, int]]:
    """Lists all (i, j) for which answer i is better than answer j."""
    judged = [(i, rank) for i, rank in enumerate(self.ranks) if rank is not None]
    return [(i, j) for i, better in judged for j, worse in judged if better < worse]

  def strength_of(self, i: int, j: int) -> Strength | None:
    """Returns how much better answer i is than answer j.

    The strength is known only for the second worst rank over the worst rank. Other pairs give None.
    """
    lowest = sorted({rank for rank in self.ranks if rank is not None})[-2:]
    return self.strength if [self.ranks[i], self.ranks[j]] == lowest else None


def read_comparisons(
  rows: Sequence[Row],
  tokenizer: Tokenizer,
  *,
  prompt_format: PromptFormat,
  max_prompt_length: int,
  max_answer_length: int,
  bad_rows: BadRows = BadRows.ERROR,
  too_long: TooLongComparison = TooLongComparison.ERROR,
  strengths: Collection[Strength] | None = None,
  read: Callable[[Mapping[str, Any]], Judgement] = judgement,
) -> tuple[list[Comparison], dict[str, int]]:
  """Checks rows and tokenises them.

  Args:
    rows: of any of the forms that `read` takes.
    tokenizer: the model's tokeniser.
    prompt_format: how a prompt is rendered. Messages in a prompt or in answers always use the chat template.
    max_prompt_length: limit on the tokens of a prompt.
    max_answer_length: limit on the tokens of an answer, its end token included.
    bad_rows: action on a row that is malformed, or that prefers an answer to an equal one.
    too_long: action on a comparison over a limit.
    strengths: keep only comparisons with one of these strengths (Llama 3: the upper two). Comparisons without a
      strength are then left out, too. None: keep all.
    read: says what a row's columns mean: `judgement`, or `data.labelled_rows.labelled_answer`.

  Returns:
    (comparisons in the order of rows, counts of rows). The keys of the counts are "prompt_cut" and the reasons for
    dropping a row.

  Raises:
    InputError: if a row is bad or too long and the action is ERROR (the message names file and line), if a chat
      template is needed and there is none or it cannot write an assistant's turn, or if no comparison is left.
  """
  if not rows:
    raise InputError("comparisons: no rows")
  if min(max_prompt_length, max_answer_length) < 1:
    raise InputError(f"comparisons: limits of {max_prompt_length} and {max_answer_length} tokens, expected at least 1")
  encoder = AnswerEncoder(tokenizer, prompt_format)
  counts: collections.Counter[str] = collections.Counter()
  kept = []
  for row in rows:
    try:
      said = read(row.columns)
      prompt, answers, ends = encoder.encode(said)
      comparison = Comparison(
        prompt, answers, said.ranks, said.strength, row.source, row.columns, ends, said.probability, said.desirable
      )
    except BadRow as error:
      if bad_rows == BadRows.ERROR:
        raise InputError(f"{row.source}: {error}") from None
      counts[error.reason] += 1
      continue
    except InputError as error:  # a defect of the tokeniser or the config: dropping rows would not help
      raise InputError(f"{row.source}: {error}") from None
    if strengths is not None and comparison.strength not in strengths:
      counts[f"strength_{comparison.strength or 'missing'}"] += 1
      continue
    longest = max(map(len, answers))
    cuts = too_long == TooLongComparison.CUT_PROMPT
    if longest > max_answer_length or (len(prompt) > max_prompt_length and not cuts):
      if too_long == TooLongComparison.ERROR:
        raise InputError(
          f"{row.source}: prompt of {len(prompt)} tokens and answers of up to {longest}; the limits are "
          f"{max_prompt_length} and {max_answer_length} (preferences.max_prompt_length, max_answer_length)"
        )
      counts["answer_too_long" if longest > max_answer_length else "prompt_too_long"] += 1
      continue
    if len(prompt) > max_prompt_length:
      counts["prompt_cut"] += 1
      comparison = dataclasses.replace(comparison, prompt=_cut(prompt, max_prompt_length, tokenizer.bos_id))
    kept.append(comparison)
  if not kept:
    why = ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))
    raise InputError(f"{rows[0].source.rsplit(':', 1)[0]}: no comparison is left of {len(rows)} rows ({why})")
  return kept, dict(counts)


def split_by_prompt(rows: Sequence[Row], *, held_out: float) -> tuple[list[Row], list[Row]]:
  """Splits rows into training and held-out rows by their prompts.

  A row is held out if the sha256 of its prompt, read as a number in [0, 1), is below `held_out`. So all rows of one
  prompt are always on one side, whatever other rows there are and whatever their order. A row that is held out at one
  share is held out at any larger share. The messages up to the user's first one identify a conversation. So its
  continuations, which quote answers that are compared earlier in it, are on the same side.

  Args:
    rows: rows of preferences, or of demonstrations ("prompt" or "messages").
    held_out: share of rows to hold out, in [0, 1].

  Returns:
    (training rows, held-out rows), each in the order of `rows`.
  """
  parts: tuple[list[Row], list[Row]] = ([], [])
  for row in rows:
    text = json.dumps(opening(row.columns), sort_keys=True, ensure_ascii=False)
    fraction = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    parts[fraction < held_out].append(row)
  return parts


def pairs(comparisons: Sequence[Comparison]) -> list[Comparison]:
  """Makes one pair (K = 2) of each answer and each answer that it beats.

  The better answer comes first. A pair keeps the row and the source of its comparison.
  """
  found = []
  for comparison in comparisons:
    for both in comparison.beaten():
      found.append(
        dataclasses.replace(
          comparison,
          answers=tuple(comparison.answers[i] for i in both),
          ranks=(0, 1),
          strength=comparison.strength_of(*both),
          ends=None if comparison.ends is None else tuple(comparison.ends[i] for i in both),
        )
      )
  return found


def _cut(prompt: tuple[int, ...], length: int, bos_id: int | None) -> tuple[int, ...]:
  """Cuts the beginning of a prompt, but keeps the token that starts a sequence."""
  start = prompt[:1] if bos_id is not None and prompt[0] == bos_id else ()
  return start + prompt[len(prompt) - length + len(start) :]
