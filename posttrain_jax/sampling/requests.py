"""What the engine keeps about its work on the host: one record per answer under way, and counts."""

import dataclasses

import numpy as np

from posttrain_jax.types import Answer, FinishReason, Prompt


@dataclasses.dataclass
class EngineStats:
  """What the engine did since the last `take_stats`.

  Attributes:
    generated_tokens: answer tokens drawn.
    prefill_tokens: prompt tokens run, padding left out.
    recomputed_tokens: tokens of prompts and answers run again because an answer went on after `suspend`.
    dispatches: calls of the decode program.
    decode_steps: decode steps run.
    slot_steps: decode steps times slots.
    idle_slot_steps: those of slots without an active request.
  """

  generated_tokens: int = 0
  prefill_tokens: int = 0
  recomputed_tokens: int = 0
  dispatches: int = 0
  decode_steps: int = 0
  slot_steps: int = 0
  idle_slot_steps: int = 0


@dataclasses.dataclass(eq=False)
class Request:
  """A sample under way: what was drawn for it so far, in parts of one dispatch each, or of all before `suspend`."""

  prompt: Prompt
  sample: int
  tokens: list[np.ndarray] = dataclasses.field(default_factory=list)
  sampler_logprobs: list[np.ndarray] = dataclasses.field(default_factory=list)
  drawn_logprobs: list[np.ndarray] = dataclasses.field(default_factory=list)
  versions: list[np.ndarray] = dataclasses.field(default_factory=list)

  @property
  def name(self) -> tuple[int, int]:
    """The group it belongs to, by prompt index and attempt."""
    return self.prompt.index, self.prompt.attempt

  @property
  def drawn(self) -> int:
    """Tokens drawn so far."""
    return sum(map(len, self.tokens))

  @property
  def length(self) -> int:
    """Tokens of the prompt and drawn so far."""
    return len(self.prompt.tokens) + self.drawn

  @property
  def sequence(self) -> np.ndarray:
    """Prompt and answer so far, int32 [length]."""
    return np.concatenate([np.array(self.prompt.tokens, np.int32), *self.tokens])

  def answer(self, reason: FinishReason) -> Answer:
    """The record of what was drawn."""
    join = lambda parts, dtype: np.concatenate([np.zeros((0,), dtype), *parts])  # noqa: E731
    return Answer(
      tokens=join(self.tokens, np.int32),
      sampler_logprobs=join(self.sampler_logprobs, np.float32),
      drawn_logprobs=join(self.drawn_logprobs, np.float32),
      versions=join(self.versions, np.int32),
      finish_reason=reason,
    )


def continued(prompt: Prompt, sample: int, answer: Answer) -> Request:
  """The request that a suspended answer is the beginning of."""
  if not len(answer.tokens):
    return Request(prompt, sample)
  return Request(prompt, sample, [answer.tokens], [answer.sampler_logprobs], [answer.drawn_logprobs], [answer.versions])
