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
    dispatches: calls of the decode program.
    decode_steps: decode steps run.
    slot_steps: decode steps times slots.
    idle_slot_steps: those of slots without an active request.
  """

  generated_tokens: int = 0
  prefill_tokens: int = 0
  dispatches: int = 0
  decode_steps: int = 0
  slot_steps: int = 0
  idle_slot_steps: int = 0


@dataclasses.dataclass
class Request:
  """A sample under way: what was drawn for it so far, one array a dispatch."""

  prompt: Prompt
  sample: int
  tokens: list[np.ndarray] = dataclasses.field(default_factory=list)
  sampler_logprobs: list[np.ndarray] = dataclasses.field(default_factory=list)
  drawn_logprobs: list[np.ndarray] = dataclasses.field(default_factory=list)
  versions: list[np.ndarray] = dataclasses.field(default_factory=list)

  def answer(self, reason: FinishReason) -> Answer:
    join = lambda parts, dtype: np.concatenate([np.zeros((0,), dtype), *parts])  # noqa: E731
    return Answer(
      tokens=join(self.tokens, np.int32),
      sampler_logprobs=join(self.sampler_logprobs, np.float32),
      drawn_logprobs=join(self.drawn_logprobs, np.float32),
      versions=join(self.versions, np.int32),
      finish_reason=reason,
    )
