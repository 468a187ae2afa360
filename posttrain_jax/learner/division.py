"""Describes how a step's prompts are cut into updates, micro-batches and rows."""

import dataclasses

from jax.sharding import Mesh

from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Division:
  """Describes how the prompts of an optimiser update are cut.

  Attributes:
    prompts_per_update: P, prompts in one optimiser update. A forward pass that scores answers takes as many at a time.
    micro_batches: M, parts in which an update is computed.
    rows_per_prompt: R, rows over which the G answers to a prompt are cut, each with the prompt again; divides G. In PPO
      it is 1: values are of whole groups.
  """

  prompts_per_update: int
  micro_batches: int
  rows_per_prompt: int

  def check(self, mesh: Mesh) -> None:
    """Checks that an update's P R rows divide over its micro-batches and the mesh.

    Raises:
      InputError: if they do not.
    """
    shards = batch_shards(mesh)
    rows = self.prompts_per_update * self.rows_per_prompt
    sizes = (self.prompts_per_update, self.micro_batches, self.rows_per_prompt)
    if min(sizes) < 1 or rows % (self.micro_batches * shards):
      cut = f" x learner.rows_per_prompt={self.rows_per_prompt}" if self.rows_per_prompt != 1 else ""
      raise InputError(
        f"learner: {self.prompts_per_update} prompts an update{cut} do not divide over "
        f"learner.micro_batches={self.micro_batches} x data x fsdp = {shards} shards"
      )
