"""Decides which answers share a packed row.

A row holds at most N tokens: answers, and each of their prompts once. Groups are placed whole where they fit, largest
first, in the row that they fill best. A group that fits nowhere is cut: its largest answers fill a row with space, and
the prompt is repeated in each row that has some of its answers. A repeated prompt takes the place of padding, which
would cost the same.

The plan depends on lengths alone, and on the groups' order only between groups of the same size.
"""

import dataclasses

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


@dataclasses.dataclass
class _Space:
  """Holds rows while they are filled.

  Attributes:
    tokens: N, of a row.
    most_answers: of a row.
    rows: their pieces.
    free: tokens that are free in each row.
    answers: answers in each row.
  """

  tokens: int
  most_answers: int
  rows: list[Row] = dataclasses.field(default_factory=list)
  free: list[int] = dataclasses.field(default_factory=list)
  answers: list[int] = dataclasses.field(default_factory=list)

  def open(self) -> int:
    """Adds an empty row and returns its index."""
    self.rows.append([])
    self.free.append(self.tokens)
    self.answers.append(0)
    return len(self.rows) - 1

  def put(self, row: int, piece: Piece, tokens: int) -> None:
    """Puts a piece in a row."""
    self.rows[row].append(piece)
    self.free[row] -= tokens
    self.answers[row] += len(piece.answers)

  def best(self, tokens: int, answers: int) -> int | None:
    """Returns the fullest row that still holds a piece; None if none does."""
    free = np.array(self.free, np.int64)
    fits = (free >= tokens) & (np.array(self.answers, np.int64) + answers <= self.most_answers)
    return int(np.where(fits, free, self.tokens + 1).argmin()) if fits.any() else None

  def emptiest(self) -> int | None:
    """Returns the emptiest row that may take an answer; None if none may."""
    free = np.where(np.array(self.answers, np.int64) < self.most_answers, np.array(self.free, np.int64), 0)
    return int(free.argmax()) if free.any() else None


def plan_rows(
  prefixes: np.ndarray, lengths: np.ndarray, *, tokens: int, most_answers: int, shards: int = 1, most_rows: int
) -> list[Row]:
  """Places all answers that have a token.

  Args:
    prefixes: int [P], tokens of each prompt that stand before its answers: all but the last.
    lengths: int [P, G], tokens of each answer; one of 0 is left out.
    tokens: N, of a row; holds every prompt with each of its answers.
    most_answers: of a row.
    shards: S, rows that are computed at the same time. Their number of tokens is made about equal.
    most_rows: what `plain_rows` needs at most.

  Returns:
    Rows, those with the most work first.
  """
  rows = _fill(prefixes, lengths, tokens, most_answers)
  if shards > 1:
    rows = _even(rows, prefixes, lengths, tokens, most_answers, allowed=-(-len(rows) // shards) * shards)
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


def _fill(prefixes: np.ndarray, lengths: np.ndarray, tokens: int, most_answers: int) -> list[Row]:
  space = _Space(tokens, most_answers)
  sizes = prefixes + lengths.sum(1)
  for p in np.argsort(-sizes, kind="stable"):
    left = [int(g) for g in np.argsort(-lengths[p], kind="stable") if lengths[p, g]]
    prefix, of = int(prefixes[p]), lengths[p]
    while left:
      needs = prefix + int(of[left].sum())
      row = space.best(needs, len(left))
      if row is None:
        row = space.emptiest()
        # A copy of the prompt must be worth it.
        if row is None or sum(_chosen(of, left, space, row, prefix)[1]) < max(prefix, 1):
          row = space.open()
      chosen, taken = _chosen(of, left, space, row, prefix)
      space.put(row, Piece(int(p), tuple(chosen)), prefix + sum(taken))
      left = [g for g in left if g not in chosen]
  return space.rows


def _chosen(lengths: np.ndarray, left: list[int], space: _Space, row: int, prefix: int) -> tuple[list[int], list[int]]:
  """Returns the answers, largest first, that fit in a row with their prompt; and their lengths."""
  free, most = space.free[row] - prefix, space.most_answers - space.answers[row]
  chosen, taken = [], []
  for g in left:
    if len(chosen) < most and lengths[g] <= free:
      chosen.append(g)
      taken.append(int(lengths[g]))
      free -= int(lengths[g])
  return chosen, taken


def _even(
  rows: list[Row], prefixes: np.ndarray, lengths: np.ndarray, tokens: int, most_answers: int, *, allowed: int
) -> list[Row]:
  """Fills rows less, as long as no more than the allowed number is needed."""
  low = int(np.where(lengths > 0, prefixes[:, None] + lengths, 0).max(initial=1))
  high = tokens
  for _ in range(6):  # a 64th of the difference is even enough
    middle = (low + high) // 2
    found = _fill(prefixes, lengths, middle, most_answers)
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
