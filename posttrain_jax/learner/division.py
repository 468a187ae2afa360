"""Describes how a step's prompts are cut into updates, and these into micro-batches of tokens."""

import dataclasses

from jax.sharding import Mesh

from posttrain_jax.parallel.sharding import LEARNER_RULES, batch_shards
from posttrain_jax.types import InputError

_ENOUGH = 8192  # tokens of a row; more make products hardly faster


@dataclasses.dataclass(frozen=True)
class Division:
  """Describes how the prompts of an optimiser update are cut.

  Attributes:
    prompts_per_update: P, prompts in one optimiser update. A forward pass that scores answers takes as many at a time.
    tokens_per_micro_batch: tokens that each batch shard computes at a time, prompts included. So a device's memory
      depends neither on the number of devices nor on that of answers.
  """

  prompts_per_update: int
  tokens_per_micro_batch: int

  def __post_init__(self):
    """Raises InputError if a number is below 1."""
    if min(self.prompts_per_update, self.tokens_per_micro_batch) < 1:
      raise InputError(
        f"learner: {self.prompts_per_update} prompts an update, {self.tokens_per_micro_batch} tokens a micro-batch, "
        "expected at least 1"
      )

  def row_tokens(self, mesh: Mesh) -> int:
    """Returns N, tokens of a row.

    It is the budget, rounded up so that the mesh can split the residual stream.
    """
    ways = mesh.shape[LEARNER_RULES["residual_length"]]
    return -(-self.tokens_per_micro_batch // ways) * ways

  def shards(self, mesh: Mesh) -> int:
    """Returns R, rows of a micro-batch: one for each batch shard."""
    return batch_shards(mesh)


def tokens_or_default(tokens: int, *, prompts: int, group: int, prompt: int, answer: int) -> int:
  """Returns the token budget of a micro-batch, chosen if it is 0.

  The choice is a quarter of what an update has if all answers reach the cap, but at most 8,192 tokens. A row holds at
  least one prompt with one answer.

  Args:
    tokens: the config's `learner.tokens_per_micro_batch`.
    prompts: P, of an update.
    group: G, answers to a prompt.
    prompt: most tokens of a prompt.
    answer: most tokens of an answer.

  Raises:
    InputError: if the budget is too small for a prompt with an answer.
  """
  longest, update = prompt - 1 + answer, prompts * (prompt - 1 + group * answer)
  if 0 < tokens < longest:
    raise InputError(
      f"learner.tokens_per_micro_batch: {tokens}, expected 0 (chosen) or at least {longest}, which hold a prompt of "
      f"{prompt} tokens (rollout.max_prompt_length) and an answer of {answer} (rollout.max_new_tokens)"
    )
  return tokens or max(longest, min(update // 4, _ENOUGH))
