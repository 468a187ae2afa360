"""Comparisons of answers to one prompt, as token ids: what reward models and direct preference methods learn from.

`data.preference_rows` says which forms of rows are read, `data.preference_tokens` what of them becomes which tokens.
"""

import collections
import dataclasses
import enum
import hashlib
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.data.preference_rows import BadRow, Strength, judgement, opening
from posttrain_jax.data.preference_tokens import AnswerEncoder
from posttrain_jax.data.prompts import PromptFormat, Row
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError


class BadRows(enum.StrEnum):
  """What is done with a row that is no comparison."""

  ERROR = "error"
  DROP = "drop"


class TooLong(enum.StrEnum):
  """What is done with a comparison over a limit on tokens."""

  ERROR = "error"
  DROP = "drop"
  CUT_PROMPT = "cut_prompt"  # the prompt loses its beginning; a cut answer would be another one, so it is still dropped


class Margins(enum.StrEnum):
  """By how much a reward model is to tell two answers apart (Llama 2, arXiv:2307.09288, table 27)."""

  NONE = "none"
  SMALL = "small"  # 1, 2/3, 1/3, 0 by strength
  LARGE = "large"  # 3, 2, 1, 0

  def of(self, strength: Strength) -> float:
    """The margin of a strength."""
    steps = len(Strength) - 1 - list(Strength).index(strength)
    return {Margins.NONE: 0.0, Margins.SMALL: steps / 3, Margins.LARGE: float(steps)}[self]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """K answers to one prompt, and which of them are better.

  Attributes:
    prompt: token ids.
    answers: K >= 2 arrays, int32 [n], each with its end token.
    ranks: of each answer; lower is better, equal is a tie, None was not judged.
    strength: by how much the second lowest rank is better than the lowest one; None: nobody said. (Where an edited
      answer stands above the two that were compared, they are still the lowest.)
    source: "FILE:LINE" or "NAME, row N", for error messages and for telling which pairs come from one row.
    row: the columns of the row.
    ends: how many tokens at each answer's end do nothing but end it: 1, or 0 for an answer that was cut off. None: 1
      each.
  """

  prompt: tuple[int, ...]
  answers: tuple[np.ndarray, ...]
  ranks: tuple[int | None, ...]
  strength: Strength | None = None
  source: str = "comparison"
  row: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  ends: tuple[int, ...] | None = None

  def __post_init__(self):
    """Raises BadRow on what no loss can be computed of."""
    if not self.prompt:
      raise BadRow("empty_prompt", "the prompt has no token")
    if len(self.answers) < 2 or len(self.ranks) != len(self.answers):
      raise BadRow("bad_ranks", f"{len(self.answers)} answers with {len(self.ranks)} ranks, expected two or more")
    for i, answer in enumerate(self.answers):
      if not len(answer):
        raise BadRow("empty_answer", f"answer {i} has no token, not even one that ends it")
    if not self.beaten():
      raise BadRow("all_tied", f"no answer is better than another among ranks {self.ranks}")
    for i, j in self.beaten():
      if np.array_equal(self.answers[i], self.answers[j]):
        raise BadRow("equal_answers", f"answers {i} and {j} are equal, but one is said to be better than the other")

  def beaten(self) -> list[tuple[int, int]]:
    """All (i, j) of which answer i is better than answer j."""
    judged = [(i, rank) for i, rank in enumerate(self.ranks) if rank is not None]
    return [(i, j) for i, better in judged for j, worse in judged if better < worse]

  def strength_of(self, i: int, j: int) -> Strength | None:
    """By how much answer i is better than answer j, if somebody said so of just these two."""
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
  too_long: TooLong = TooLong.ERROR,
  strengths: Collection[Strength] | None = None,
) -> tuple[list[Comparison], dict[str, int]]:
  """Checks rows and tokenises them.

  Args:
    rows: of any of the forms in `data.preference_rows`.
    tokenizer: the model's.
    prompt_format: how a prompt is rendered. Messages, in prompt or answers, always go through the chat template.
    max_prompt_length: the most tokens of a prompt.
    max_answer_length: the most tokens of an answer, its end token included.
    bad_rows: what is done with a row that is malformed, or that prefers an answer to an equal one.
    too_long: what is done with a comparison over a limit.
    strengths: keep only comparisons of these (Llama 3: the upper two), and none that do not say; None: all.

  Returns:
    (comparisons in the order of rows, number of rows by what happened to them: "prompt_cut", or the reason why they
    were dropped).

  Raises:
    InputError: with file and line, on what the options do not let pass; the tokeniser's chat template is needed and
      there is none, or it cannot write an assistant's turn; or nothing is left.
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
      said = judgement(row.columns)
      prompt, answers, ends = encoder.encode(said)
      comparison = Comparison(prompt, answers, said.ranks, said.strength, row.source, row.columns, ends)
    except BadRow as error:
      if bad_rows == BadRows.ERROR:
        raise InputError(f"{row.source}: {error}") from None
      counts[error.reason] += 1
      continue
    except InputError as error:  # the tokeniser's or the config's fault, which no dropping of rows mends
      raise InputError(f"{row.source}: {error}") from None
    if strengths is not None and comparison.strength not in strengths:
      counts[f"strength_{comparison.strength or 'missing'}"] += 1
      continue
    longest = max(map(len, answers))
    cuts = too_long == TooLong.CUT_PROMPT
    if longest > max_answer_length or (len(prompt) > max_prompt_length and not cuts):
      if too_long == TooLong.ERROR:
        raise InputError(
          f"{row.source}: prompt of {len(prompt)} tokens and answers of up to {longest}; the limits are "
          f"{max_prompt_length} and {max_answer_length}"
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
  """Holds rows out by their prompts: (the others, those held out), each in the order of `rows`.

  A row is held out where the sha256 of its prompt, read as a fraction of 1, is below the share asked for. So rows of
  one prompt are always on one side, whatever else is in the data and in whatever order, and what is held out at one
  share is so at any larger one. A conversation is known by its messages up to the user's first: its continuations,
  which quote the answers that are compared earlier in it, are on the same side.

  Args:
    rows: of preferences, or of demonstrations ("prompt" or "messages").
    held_out: share to be held out, in [0, 1].
  """
  parts: tuple[list[Row], list[Row]] = ([], [])
  for row in rows:
    text = json.dumps(opening(row.columns), sort_keys=True, ensure_ascii=False)
    fraction = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    parts[fraction < held_out].append(row)
  return parts


def pairs(comparisons: Sequence[Comparison]) -> list[Comparison]:
  """All pairs of which one answer is better, K = 2, the better one first; a pair keeps its row and source."""
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


def with_mismatched(comparisons: Sequence[Comparison]) -> list[Comparison]:
  """Adds to each pair a third answer, not judged: the better one of the next pair with another prompt, in a ring.

  KTO's estimate of the KL to the reference is made of prompts with answers to other prompts (arXiv:2402.01306, section
  4.1).

  Raises:
    InputError: all comparisons are of one prompt, or one has not two answers.
  """
  found = []
  for i, comparison in enumerate(comparisons):
    if len(comparison.answers) != 2:
      raise InputError(f"{comparison.source}: {len(comparison.answers)} answers, expected a pair")
    others = itertools.chain(itertools.islice(comparisons, i + 1, None), itertools.islice(comparisons, i))
    other = next((other for other in others if other.prompt != comparison.prompt), None)
    if other is None:
      raise InputError(f"{comparison.source}: no other prompt among {len(comparisons)} comparisons to mismatch it with")
    ((best, _),) = other.beaten()
    found.append(
      dataclasses.replace(
        comparison,
        answers=(*comparison.answers, other.answers[best]),
        ranks=(*comparison.ranks, None),
        ends=(*(comparison.ends or (1, 1)), (other.ends or (1, 1))[best]),
      )
    )
  return found


def _cut(prompt: tuple[int, ...], length: int, bos_id: int | None) -> tuple[int, ...]:
  """The end of a prompt, after the token that starts a sequence if the prompt had it."""
  start = prompt[:1] if bos_id is not None and prompt[0] == bos_id else ()
  return start + prompt[len(prompt) - length + len(start) :]
