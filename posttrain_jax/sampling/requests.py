"""Holds the engine's records on the host: one for each unfinished answer, and the counts."""

import dataclasses

import numpy as np

from posttrain_jax.sampling.own_sampling import OwnSampling
from posttrain_jax.types import Answer, FinishReason, InputError, Prompt

GroupName = tuple[int, int]  # (prompt index, attempt)


@dataclasses.dataclass
class EngineStats:
  """Holds counts of what the engine did since the last `take_stats`.

  Attributes:
    generated_tokens: answer tokens drawn.
    prefill_tokens: prompt tokens run, padding left out.
    recomputed_tokens: answer tokens run again because an answer was resumed after `suspend`.
    prefills: calls of the prefill program.
    dispatches: calls of the decode program.
    decode_steps: decode steps run.
    slot_steps: decode steps times slots.
    idle_slot_steps: those of slots without an active request.
    preemptions: answers that left their slot because pages ran out, and went on later.
    most_live_tokens: tokens of prompts and answers in the caches after the dispatch that had most of them.
    most_paged_tokens: tokens that the pages in use have room for, in the dispatch that used most pages.
  """

  generated_tokens: int = 0
  prefill_tokens: int = 0
  recomputed_tokens: int = 0
  prefills: int = 0
  dispatches: int = 0
  decode_steps: int = 0
  slot_steps: int = 0
  idle_slot_steps: int = 0
  preemptions: int = 0
  most_live_tokens: int = 0
  most_paged_tokens: int = 0

  def add_dispatch(self, steps: int, slots: int, kept: int, *, live: int, paged: int) -> None:
    """Counts a dispatch.

    Args:
      steps: decode steps that it ran.
      slots: slots of the engine.
      kept: tokens that were kept of it.
      live: tokens of prompts and answers in the caches.
      paged: tokens that the pages in use have room for.
    """
    self.dispatches += 1
    self.decode_steps += steps
    self.slot_steps += steps * slots
    self.idle_slot_steps += steps * slots - kept
    self.generated_tokens += kept
    self.most_live_tokens = max(self.most_live_tokens, live)
    self.most_paged_tokens = max(self.most_paged_tokens, paged)


@dataclasses.dataclass(eq=False)
class Request:
  """Holds one sample of a prompt with what was drawn for it so far.

  Each list has one array for each dispatch that drew tokens; a resumed answer begins with one array of all its earlier
  tokens.

  Attributes:
    prompt: the prompt.
    sample: number of the answer in its group, from 0.
    own: the sampling that it asks for; None if the engine draws all alike.
    tokens: parts of the answer, int32 [n] each.
    sampler_logprobs: float32 [n] each, as in `types.Answer`.
    drawn_logprobs: float32 [n] each.
    versions: int32 [n] each.
    saved: its pages' keys and values, each layer's [pages, K, page, H], while it waits because pages ran out.
  """

  prompt: Prompt
  sample: int
  own: OwnSampling | None = None
  tokens: list[np.ndarray] = dataclasses.field(default_factory=list)
  sampler_logprobs: list[np.ndarray] = dataclasses.field(default_factory=list)
  drawn_logprobs: list[np.ndarray] = dataclasses.field(default_factory=list)
  versions: list[np.ndarray] = dataclasses.field(default_factory=list)
  saved: list[tuple[np.ndarray, np.ndarray]] | None = None

  @property
  def group(self) -> GroupName:
    """Names its group: (prompt index, attempt)."""
    return self.prompt.index, self.prompt.attempt

  @property
  def drawn(self) -> int:
    """Counts the tokens drawn so far."""
    return sum(map(len, self.tokens))

  @property
  def length(self) -> int:
    """Counts the tokens of the prompt and those drawn so far."""
    return len(self.prompt.tokens) + self.drawn

  @property
  def sequence(self) -> np.ndarray:
    """Joins the prompt and the answer so far, int32 [length]."""
    return np.concatenate([np.array(self.prompt.tokens, np.int32), *self.tokens])

  def keep(self, count: int) -> None:
    """Keeps only the first `count` tokens of those that the newest dispatch drew."""
    for parts in (self.tokens, self.sampler_logprobs, self.drawn_logprobs, self.versions):
      parts[-1] = parts[-1][:count]

  def answer(self, reason: FinishReason) -> Answer:
    """Returns the record of what was drawn."""
    join = lambda parts, dtype: np.concatenate([np.zeros((0,), dtype), *parts])  # noqa: E731
    return Answer(
      tokens=join(self.tokens, np.int32),
      sampler_logprobs=join(self.sampler_logprobs, np.float32),
      drawn_logprobs=join(self.drawn_logprobs, np.float32),
      versions=join(self.versions, np.int32),
      finish_reason=reason,
    )


def check_prompt(prompt: Prompt, *, longest: int, vocab_size: int) -> None:
  """Refuses a prompt that the engine cannot answer.

  Raises:
    InputError: if it is empty, has more than `longest` tokens, or an id that the model lacks.
  """
  if not 0 < len(prompt.tokens) <= longest:
    raise InputError(
      f"prompt {prompt.index}: {len(prompt.tokens)} tokens, expected 1 to {longest} (rollout.max_prompt_length)"
    )
  if not 0 <= min(prompt.tokens) <= max(prompt.tokens) < vocab_size:
    wrong = next(token for token in prompt.tokens if not 0 <= token < vocab_size)
    raise InputError(f"prompt {prompt.index}: token id {wrong}, expected 0 to {vocab_size - 1}")


def resumed(prompt: Prompt, sample: int, answer: Answer, own: OwnSampling | None = None) -> Request:
  """Makes the request that continues a suspended answer."""
  if not len(answer.tokens):
    return Request(prompt, sample, own)
  parts = [answer.tokens], [answer.sampler_logprobs], [answer.drawn_logprobs], [answer.versions]
  return Request(prompt, sample, own, *parts)
