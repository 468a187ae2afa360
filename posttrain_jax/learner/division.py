"""Describes how a step's prompts are cut into updates, and these into micro-batches of tokens."""

import dataclasses

from jax.sharding import Mesh

from posttrain_jax.parallel.sharding import LEARNER_RULES, batch_shards
from posttrain_jax.types import InputError

_LEAST, _ENOUGH = 512, 8192  # tokens of a row: fewer make its own cost show, more make products hardly faster
_ROWS = 16  # of a shard's part of an update, if all answers reach the cap; about half a row of each part is padding


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Holds the greatest lengths of an update's prompts and answers.

  A token budget is chosen from them.

  Attributes:
    group: G, answers to a prompt.
    prefix: most tokens of a prompt, without its last.
    answer: most tokens of an answer.
    longest: tokens that a row must hold: a prompt with one answer, or with all that a loss compares.
  """

  group: int
  prefix: int
  answer: int
  longest: int

  def chosen_tokens(self, prompts: int) -> int:
    """Chooses the tokens of a row from a batch shard's prompts."""
    whole = self.prefix + self.group * self.answer
    if whole <= _ENOUGH:
      budget = min(max(prompts * whole // _ROWS, _LEAST), _ENOUGH)
      return whole * max(1, min(prompts, budget // whole))
    return max(self.longest, self.prefix + (_ENOUGH - self.prefix) // self.answer * self.answer)


@dataclasses.dataclass(frozen=True)
class Division:
  """Describes how the prompts of an optimiser update are cut.

  Attributes:
    prompts_per_update: P, prompts in one optimiser update. A forward pass that scores answers takes as many at a time.
    budget: tokens that each batch shard computes at a time, prompts included, or the lengths that they are chosen from.
      So a device's memory depends neither on the number of devices nor on that of answers.
  """

  prompts_per_update: int
  budget: int | Lengths

  def __post_init__(self):
    """Raises InputError if a number is below 1."""
    if self.prompts_per_update < 1 or (not isinstance(self.budget, Lengths) and self.budget < 1):
      raise InputError(
        f"learner: {self.prompts_per_update} prompts an update, {self.budget} tokens a micro-batch, expected at least 1"
      )

  def tokens(self, shards: int) -> int:
    """Returns the tokens of a micro-batch on each of some batch shards."""
    if isinstance(self.budget, Lengths):
      return self.budget.chosen_tokens(-(-self.prompts_per_update // shards))
    return self.budget

  def row_tokens(self, mesh: Mesh) -> int:
    """Returns N, tokens of a row.

    It is the budget, rounded up so that the mesh can split the residual stream.
    """
    ways = mesh.shape[LEARNER_RULES["residual_length"]]
    return -(-self.tokens(self.shards(mesh)) // ways) * ways

  def shards(self, mesh: Mesh) -> int:
    """Returns R, rows of a micro-batch: one for each batch shard."""
    return batch_shards(mesh)


def division_of(
  tokens: int,
  *,
  prompts: int,
  group: int,
  prompt: int,
  answer: int,
  together: bool = False,
  field: str = "learner.tokens_per_micro_batch",
  limits: tuple[str, str] = ("rollout.max_prompt_length", "rollout.max_new_tokens"),
) -> Division:
  """Returns how an update is cut, with a chosen token budget if it is 0.

  The chosen budget holds whole groups whose answers reach the cap, so that such an update has no padding. It is about
  a sixteenth of a batch shard's part of the update, between 512 and 8,192 tokens, and at least a group. Where a group
  has more than 8,192 tokens, the budget holds as many answers to one prompt as 8,192 tokens hold. A row holds at least
  one prompt with one answer, or with all its answers if a loss compares them.

  Args:
    tokens: the config's field.
    prompts: P, of an update.
    group: G, answers to a prompt.
    prompt: most tokens of a prompt.
    answer: most tokens of an answer.
    together: whether all answers to a prompt share a row.
    field: name of the config's field, for the message.
    limits: the fields that limit prompts and answers, for the message.

  Raises:
    InputError: if the budget is too small for a prompt with an answer, or with all of them.
  """
  count = group if together else 1
  longest = prompt - 1 + count * answer
  if 0 < tokens < longest:
    answers = f"{count} answers" if together else "an answer"
    raise InputError(
      f"{field}: {tokens}, expected 0 (chosen) or at least {longest}, which hold a prompt of {prompt} tokens "
      f"({limits[0]}) and {answers} of {answer} ({limits[1]})"
    )
  return Division(prompts, tokens or Lengths(group, prompt - 1, answer, longest))
