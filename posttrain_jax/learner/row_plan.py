"""Decides which answers share a packed row.

A row holds at most N tokens: answers, and each of their prompts once. Groups are placed whole where they fit, largest
first, in the row that they fill best. A group that fits nowhere is cut: its largest answers fill a row with space, and
the prompt is repeated in each row that has some of its answers. A repeated prompt takes the place of padding, which
would cost the same. If a loss compares the answers to a prompt, groups are never cut.

The plan depends on lengths alone, and on the groups' order only between groups of the same size.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Piece:
  """Holds answers to one prompt that share a row.

  Attributes:
    prompt: index p of the prompt.
    answers: indices g of its answers.
  """

  prompt: int
  answers: tuple[int, ...]


Row = list[Piece]


class _Space:
  """Holds rows while they are filled.

  Attributes:
    tokens: N, of a row.
    most_answers: of a row.
    rows: their pieces.
  """

  def __init__(self, tokens: int, most_answers: int):
    self.tokens, self.most_answers = tokens, most_answers
    self.rows: list[Row] = []
    # Free tokens of each row, and how many answers it may still take. The arrays are longer than `rows`.
    self._free, self._left = np.zeros((64,), np.int64), np.zeros((64,), np.int64)

  def open(self) -> int:
    """Adds an empty row and returns its index."""
    row = len(self.rows)
    if row == len(self._free):
      self._free, self._left = (np.concatenate([x, np.zeros_like(x)]) for x in (self._free, self._left))
    self.rows.append([])
    self._free[row], self._left[row] = self.tokens, self.most_answers
    return row

  def put(self, row: int, piece: Piece, tokens: int) -> None:
    """Puts a piece in a row."""
    self.rows[row].append(piece)
    self._free[row] -= tokens
    self._left[row] -= len(piece.answers)

  def room(self, row: int) -> tuple[int, int]:
    """Returns (free tokens of a row, answers that it may still take)."""
    return int(self._free[row]), int(self._left[row])

  def best(self, tokens: int, answers: int) -> int | None:
    """Returns the fullest row that still holds a piece; None if none does."""
    free, left = self._free[: len(self.rows)], self._left[: len(self.rows)]
    fits = np.flatnonzero((free >= tokens) & (left >= answers))
    return int(fits[free[fits].argmin()]) if len(fits) else None

  def emptiest(self) -> int | None:
    """Returns the emptiest row that may take an answer; None if none may."""
    free = np.where(self._left[: len(self.rows)] > 0, self._free[: len(self.rows)], 0)
    return int(free.argmax()) if free.any() else None


def plan_rows(
  prefixes: np.ndarray,
  lengths: np.ndarray,
  *,
  tokens: int,
  most_answers: int,
  shards: int = 1,
  most_rows: int,
  together: bool = False,
) -> list[Row]:
  """Places all answers that have a token.

  Args:
    prefixes: int [P], tokens of each prompt that stand before its answers: all but the last.
    lengths: int [P, G], tokens of each answer; one of 0 is left out.
    tokens: N, of a row; holds every prompt with each of its answers.
    most_answers: of a row.
    shards: S, rows that are computed at the same time. Their number of tokens is made about equal.
    most_rows: what `plain_rows` needs at most.
    together: whether all answers to a prompt share a row. Then a row must hold the longest prompt with a whole group of
      the longest answers.

  Returns:
    Rows, those with the most work first.
  """
  fill = functools.partial(
    _fill, np.asarray(prefixes), np.asarray(lengths), most_answers=most_answers, together=together
  )
  rows = fill(tokens=tokens)
  if shards > 1:
    piece = prefixes + lengths.sum(1) if together else np.where(lengths > 0, prefixes[:, None] + lengths, 0)
    least = int(piece.max(initial=1))
    rows = _even(rows, fill, least=least, most=tokens, allowed=-(-len(rows) // shards) * shards)
  if len(rows) > most_rows:
    rows = plain_rows(prefixes, lengths, tokens=tokens, most_answers=most_answers)
  # Rows that are computed at the same time take about the same time.
  return sorted(rows, key=lambda row: -_pairs(row, prefixes, lengths))


def plain_rows(prefixes: np.ndarray, lengths: np.ndarray, *, tokens: int, most_answers: int) -> list[Row]:
  """Places groups as if all had the longest prompt and answers."""
  count, group = lengths.shape
  whole, part = _plain(int(prefixes.max(initial=0)), int(lengths.max(initial=1)), group, tokens, most_answers)
  pieces = [
    Piece(p, tuple(g for g in range(start, min(start + part, group)) if lengths[p, g]))
    for p in range(count)
    for start in range(0, group, part)
  ]
  return [[piece for piece in pieces[i : i + whole] if piece.answers] for i in range(0, len(pieces), whole)]


def most_rows(*, prompts: int, group: int, prefix: int, length: int, tokens: int, most_answers: int) -> int:
  """Returns the most rows that `plan_rows` makes.

  Args:
    prompts: P.
    group: G.
    prefix: most tokens of a prompt, without its last.
    length: most tokens of an answer.
    tokens: N, of a row.
    most_answers: of a row.
  """
  whole, part = _plain(prefix, length, group, tokens, most_answers)
  return -(-prompts * -(-group // part) // whole)


def _plain(prefix: int, length: int, group: int, tokens: int, most_answers: int) -> tuple[int, int]:
  """Returns (pieces of a row, answers of a piece).

  A row has several pieces only if a piece is a whole group.
  """
  part = min(group, most_answers, (tokens - prefix) // length)
  whole = min(tokens // (prefix + group * length), most_answers // group) if part == group else 1
  return max(whole, 1), part


def _fill(prefixes: np.ndarray, lengths: np.ndarray, *, tokens: int, most_answers: int, together: bool) -> list[Row]:
  space = _Space(tokens, most_answers)
  sizes, order = prefixes + lengths.sum(1), np.argsort(-lengths, axis=1, kind="stable").tolist()
  prefixes, lengths = prefixes.tolist(), lengths.tolist()  # whose elements are read faster
  for p in np.argsort(-sizes, kind="stable").tolist():
    prefix, of = prefixes[p], lengths[p]
    left = [g for g in order[p] if of[g]]
    while left:
      row = space.best(prefix + sum(of[g] for g in left), len(left))
      if row is None and not together:
        row = space.emptiest()
        # A copy of the prompt must be worth it.
        if row is not None and _tokens(of, _chosen(of, left, space, row, prefix)) < max(prefix, 1):
          row = None
      if row is None:
        row = space.open()
      chosen = _chosen(of, left, space, row, prefix)
      space.put(row, Piece(p, tuple(chosen)), prefix + _tokens(of, chosen))
      left = [g for g in left if g not in chosen]
  return space.rows


def _tokens(lengths: list[int], answers: list[int]) -> int:
  return sum(lengths[g] for g in answers)


def _chosen(lengths: list[int], left: list[int], space: _Space, row: int, prefix: int) -> list[int]:
  """Returns the answers, largest first, that fit in a row with their prompt."""
  free, most = space.room(row)
  free -= prefix
  chosen = []
  for g in left:
    if len(chosen) < most and lengths[g] <= free:
      chosen.append(g)
      free -= lengths[g]
  return chosen


def _even(rows: list[Row], fill: Callable[..., list[Row]], *, least: int, most: int, allowed: int) -> list[Row]:
  """Fills rows less, as long as no more than the allowed number is needed."""
  low, high = least, most
  for _ in range(6):  # a 64th of the difference is even enough
    middle = (low + high) // 2
    found = fill(tokens=middle)
    if len(found) <= allowed:
      rows, high = found, middle
    else:
      low = middle
  return rows


def _pairs(row: Row, prefixes: np.ndarray, lengths: np.ndarray) -> int:
  """Counts the pairs (query token, key token) of a row's attention."""
  count = 0
  for piece in row:
    prefix, of = int(prefixes[piece.prompt]), lengths[piece.prompt, list(piece.answers)].astype(np.int64)
    count += prefix * (prefix + 1) // 2 + int((of * prefix + of * (of + 1) // 2).sum())
  return count
