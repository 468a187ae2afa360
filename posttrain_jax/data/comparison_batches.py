"""Makes batches of comparisons with fixed shapes and random access.

A batch is a function of the seed and the step, so a checkpoint needs the step only.

All C(K, 2) pairs of a prompt's answers are one element of a batch and are never split over batches. The pairs are
correlated: shuffled one by one, they made InstructGPT's reward model overfit in a single epoch (arXiv:2203.02155,
section 3.5).

Only `lengths` says where an answer ends, so the pad id may equal the end token. A reward is read at an answer's last
token, `lengths - 1`, which is its end token.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import grain
import jax
import numpy as np

from posttrain_jax.data.preferences import Comparison, Margins
from posttrain_jax.types import InputError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ComparisonBatch:
  """Holds N prompts with up to K answers each, padded on the right.

  Attributes:
    index: int32 [N], position of the comparison in the data; -1 on a row that only pads the batch.
    prompts: int32 [N, Tp]. In a chat they include the header of the assistant's turn.
    prompt_lengths: int32 [N].
    answers: int32 [N, K, Tc].
    lengths: int32 [N, K], tokens of an answer, its end token included; 0 if there is no answer.
    mask: bool [N, K, Tc], True on tokens whose logprobs count. Headers never count: they are in the prompt.
    preferred: bool [N, K, K], [n, i, j] is True if answer i is better than answer j. It is False for ties, for answers
      that are missing or were not judged, and on rows that only pad the batch.
    margins: float32 [N, K, K], the margin by which answer i should beat answer j; 0 where `preferred` is False.
    probabilities: float32 [N, K, K], how likely it is that answer i is the better one; 0 where `preferred` is False.
      None if no comparison says it, so that the loss is that of certain preferences.
    desirable: bool [N], whether the first answer is good; None if answers are compared.
  """

  index: jax.Array | np.ndarray
  prompts: jax.Array | np.ndarray
  prompt_lengths: jax.Array | np.ndarray
  answers: jax.Array | np.ndarray
  lengths: jax.Array | np.ndarray
  mask: jax.Array | np.ndarray
  preferred: jax.Array | np.ndarray
  margins: jax.Array | np.ndarray
  probabilities: jax.Array | np.ndarray | None = None
  desirable: jax.Array | np.ndarray | None = None


class ComparisonBatches:
  """Yields endless batches in shuffled epochs.

  If an epoch does not fill its last batch, the next epoch fills the rest.
  """

  def __init__(
    self,
    comparisons: Sequence[Comparison],
    *,
    batch_size: int,
    seed: int,
    pad_id: int = 0,
    margins: Margins = Margins.NONE,
    count_end: bool = True,
    prompt_length: int | None = None,
    answer_length: int | None = None,
  ):
    """Arranges the comparisons in padded rows.

    Args:
      comparisons: at least one; either all are single answers or none is.
      batch_size: N, prompts of a batch.
      seed: seed of the shuffling.
      pad_id: id on padding; its value has no effect.
      margins: how strength becomes a margin. With any value but NONE, every pair must have a strength.
      count_end: whether `mask` includes the tokens that end an answer. Llama 3's DPO leaves them out: both answers
        share them, so the loss would raise and lower their likelihood at once (arXiv:2407.21783, section 4.1.4).
      prompt_length: Tp, in tokens; None: the length of the longest prompt.
      answer_length: Tc, in tokens; None: the length of the longest answer.

    Raises:
      InputError: if there are no comparisons, if `batch_size` is below 1, if a prompt or an answer is longer than its
        limit, if an answer has no token that counts, or if margins are asked for and a pair has no strength.
    """
    if not comparisons or batch_size < 1:
      raise InputError(f"comparisons: {len(comparisons)} in batches of {batch_size}, expected at least one")
    longest = [max(len(c.prompt) for c in comparisons), max(len(a) for c in comparisons for a in c.answers)]
    Tp, Tc = (found if given is None else given for found, given in zip(longest, (prompt_length, answer_length)))
    if longest[0] > Tp or longest[1] > Tc:
      raise InputError(
        f"comparisons: a prompt of {longest[0]} or an answer of {longest[1]} tokens, the limits are {Tp} and {Tc}"
      )
    soft = any(comparison.probability is not None for comparison in comparisons)
    single = comparisons[0].is_single
    N, K = len(comparisons), max(len(comparison.answers) for comparison in comparisons)
    self.batch_size = batch_size
    self._rows = rows = ComparisonBatch(
      index=np.arange(N, dtype=np.int32),
      prompts=np.full((N, Tp), pad_id, np.int32),
      prompt_lengths=np.array([len(comparison.prompt) for comparison in comparisons], np.int32),
      answers=np.full((N, K, Tc), pad_id, np.int32),
      lengths=np.zeros((N, K), np.int32),
      mask=np.zeros((N, K, Tc), bool),
      preferred=np.zeros((N, K, K), bool),
      margins=np.zeros((N, K, K), np.float32),
      probabilities=np.zeros((N, K, K), np.float32) if soft else None,
      desirable=np.array([comparison.desirable for comparison in comparisons], bool) if single else None,
    )
    for n, comparison in enumerate(comparisons):
      rows.prompts[n, : len(comparison.prompt)] = comparison.prompt
      ends = comparison.ends or (1,) * len(comparison.answers)
      for k, (answer, end) in enumerate(zip(comparison.answers, ends)):
        rows.answers[n, k, : len(answer)] = answer
        rows.lengths[n, k] = len(answer)
        counted = len(answer) if count_end else len(answer) - end
        if not counted:
          raise InputError(f"{comparison.source}: answer {k} is only its end, which count_end=False does not count")
        rows.mask[n, k, :counted] = True
      for i, j in comparison.beaten():
        rows.preferred[n, i, j] = True
        if margins != Margins.NONE:
          rows.margins[n, i, j] = _margin(comparison, i, j, margins)
        if rows.probabilities is not None:
          rows.probabilities[n, i, j] = 1.0 if comparison.probability is None else comparison.probability
    self._order = grain.MapDataset.range(N).shuffle(seed=seed).repeat()

  @property
  def num_rows(self) -> int:
    """Counts the comparisons of an epoch."""
    return len(self._rows.index)

  @property
  def num_answers(self) -> int:
    """Counts the answers of the prompt that has most, K."""
    return self._rows.answers.shape[1]

  def batch(self, step: int) -> ComparisonBatch:
    """Returns the batch of a step, counted from 0."""
    rows = [self._order[i] for i in range(step * self.batch_size, (step + 1) * self.batch_size)]
    return jax.tree.map(lambda x: x[rows], self._rows)

  def in_order(self, batch_size: int) -> Iterator[ComparisonBatch]:
    """Yields all comparisons once, in the order of the data.

    Rows that pad the last batch have index -1.
    """
    for start in range(0, self.num_rows, batch_size):
      places = np.arange(start, start + batch_size)
      batch = jax.tree.map(lambda x, rows=places % self.num_rows: x[rows], self._rows)
      fills = places >= self.num_rows
      batch.index[fills], batch.preferred[fills], batch.margins[fills] = -1, False, 0
      yield batch


def _margin(comparison: Comparison, i: int, j: int, margins: Margins) -> float:
  strength = comparison.strength_of(i, j)
  if strength is None:  # a margin of 0 would say that the two are nearly equal
    raise InputError(
      f"{comparison.source}: margins are {margins}, but no strength says by how much answer {i} beats answer {j}"
    )
  return margins.of(strength)
