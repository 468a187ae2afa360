"""Defines the numbers that fix the shapes of the engine's programs, and what follows from them."""

import dataclasses

from jax.sharding import Mesh

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.sampling.pages import PAGE, pages_for
from posttrain_jax.sampling.pool_size import pages_per_shard
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """Holds the numbers that the caller of `Engine` chooses.

  The defaults serve any model and any prompts.

  Attributes:
    slots: S, answers drawn at the same time.
    max_prompt_length: length of the longest prompt in tokens.
    max_new_tokens: cap on the tokens of an answer, the stop id included.
    steps_per_dispatch: decode steps in one dispatch; a slot whose answer ends is idle for the rest of the dispatch.
    prefill_chunk: C, tokens of a chunk, in which prompts and resumed answers are prefilled; a multiple of the page of
      32. The last chunk of a text is padded, so a prompt of 10 tokens is computed as a whole chunk, once for its group.
      A chunk is no larger than the pages of the longest prompt.
    prefill_width: W, chunks in one prefill, of one or of several texts; split over the mesh's batch shards.
    prefills_per_dispatch: most prefills between two dispatches while answers run, so the most that they wait for.
    share: T, how many answers to a prompt read one copy of its keys and values; the group size is best. The device
      holds 3 S / T copies, at most S. When no copy is free, the answers to further prompts wait.
    cache_tokens: tokens of prompts and answers that the caches hold together, on all devices. If they run out, the
      youngest answers wait. None: as many as the devices' memory allows (`pool_size.pages_per_shard`), and no more than
      the longest answers in all slots need.
  """

  slots: int
  max_prompt_length: int
  max_new_tokens: int
  steps_per_dispatch: int = 16
  prefill_chunk: int = 64
  prefill_width: int = 8
  prefills_per_dispatch: int = 4
  share: int = 1
  cache_tokens: int | None = None

  def __post_init__(self):
    """Raises InputError on a size below 1 or a chunk that does not fill whole pages."""
    for field in dataclasses.fields(self):
      size = getattr(self, field.name)
      if size is not None and size < 1:
        raise InputError(f"rollout.{field.name}: {size}, expected at least 1")
    if self.prefill_chunk % PAGE:
      raise InputError(f"rollout.prefill_chunk: {self.prefill_chunk} tokens, expected a multiple of {PAGE}")

  def check_context(self, model: TransformerConfig, reader: str = "") -> None:
    """Refuses a model whose context is shorter than a prompt with its answer may become.

    Args:
      model: the engine's, or a reader of the answers.
      reader: the config field that names a reader, with a colon and a space behind it.

    Raises:
      InputError: if prompt and answer may be longer than its context, and it may not go beyond that.
    """
    model.check_context(
      self.max_prompt_length + self.max_new_tokens,
      f"{reader}prompts of up to {self.max_prompt_length} and answers of {self.max_new_tokens} tokens",
    )


@dataclasses.dataclass(frozen=True)
class Layout:
  """Holds what follows from the sizes, each for one of the D shards.

  Attributes:
    shards: D, parts of the mesh that slots and pages are split over.
    slots: slots that are used.
    rows: rows of the slots' state, a multiple of 8. With any other number the last rows would be computed without
      vector instructions, and the last bit of a logprob would depend on the slot. The rows beyond the slots stay empty.
    prompts: P, rows of prompts. There is room for three times the prompts whose answers fill the slots: groups that
      have only their longest answers left keep their row.
    page: tokens of a page.
    of_prompt: pages of the longest prompt.
    of_answer: pages of the longest answer.
    pages: pages of the cache.
    chunk: C, tokens of a chunk; no more than the longest prompt fills.
    width: chunks in one prefill.
  """

  shards: int
  slots: int
  rows: int
  prompts: int
  page: int
  of_prompt: int
  of_answer: int
  pages: int
  chunk: int
  width: int


def layout_of(model: TransformerConfig, mesh: Mesh, sizes: Sizes) -> Layout:
  """Works out rows, pages and chunks.

  Raises:
    InputError: if the slots do not divide over the batch shards, or if `cache_tokens` cannot hold the longest prompt
      with the longest answer on each shard.
  """
  shards = batch_shards(mesh)
  if sizes.slots % shards:
    raise InputError(f"rollout.slots: {sizes.slots} slots do not divide over data x fsdp = {shards} shards")
  slots = sizes.slots // shards
  rows = 8 * pages_for(slots, 8)
  prompts = min(rows, 3 * -(-rows // sizes.share))
  # The last prompt token is left to decoding: it is the first token that a slot feeds to the model.
  of_prompt, of_answer = pages_for(sizes.max_prompt_length - 1, PAGE), pages_for(sizes.max_new_tokens, PAGE)
  pages = pages_per_shard(
    model,
    mesh,
    asked=sizes.cache_tokens,
    shards=shards,
    most=slots * of_answer + prompts * of_prompt,
    least=of_answer + of_prompt,
    page=PAGE,
  )
  return Layout(
    shards=shards,
    slots=slots,
    rows=rows,
    prompts=prompts,
    page=PAGE,
    of_prompt=of_prompt,
    of_answer=of_answer,
    pages=pages,
    chunk=min(sizes.prefill_chunk, PAGE * max(1, of_prompt)),
    width=-(-sizes.prefill_width // shards),
  )
