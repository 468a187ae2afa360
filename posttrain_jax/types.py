"""Defines the records that components exchange: prompts, answers, groups and rollouts.

Groups and rollouts hold the same facts in two forms. While answers are drawn and judged on the host, one `Group` holds
a prompt and its answers, each at its own length. For the learner, N groups become one padded `Rollout`, a frozen
pytree of arrays.

Answers are token ids from end to end: an answer is the ids that were drawn. Text is decoded from them for verifiers
and reports, and is never tokenised again for training.

Alignment, here and everywhere: index t of a per-token array is about answer token t, given the prompt and the answer
tokens before it.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np


class InputError(ValueError):
  """Reports bad configuration or bad input in one line: what, where, and what was expected.

  The binaries print that line on stderr and end with exit code 2. It is raised before anything is compiled.
  """


class RunFailed(RuntimeError):
  """Reports in one line why a run cannot go on.

  Nothing is wrong with the code. The binaries print that line on stderr and end with exit code 1.
  """


class NotFinite(RunFailed):
  """Reports that numbers became NaN or infinite, so that nothing that follows could be right."""


class FinishReason(enum.IntEnum):
  """Names the reasons why an answer ended."""

  EOS = 0  # a stop id was drawn (and is the answer's last token)
  LENGTH = 1  # the cap on new tokens was reached
  CANCELLED = 2  # there is no answer: the row fills up a batch
  SUSPENDED = 3  # it has not ended: it was taken out of the engine, to go on later


@dataclasses.dataclass(frozen=True)
class Prompt:
  """Holds one prompt, as the sampler and the verifiers see it.

  Attributes:
    index: position of the prompt in its data set; part of the key of every random draw made for it.
    tokens: prompt token ids, without padding.
    row: the columns of its data row (`answer` and any others), passed to reward functions.
    attempt: number of times this prompt was drawn before (its epoch); with it, drawing the prompt again gives other
      answers.
    source: file and line that the row came from, for messages only; a checkpoint does not hold it.
  """

  index: int
  tokens: tuple[int, ...]
  row: Mapping[str, Any]
  attempt: int = 0
  source: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class Answer:
  """Holds one sampled answer at its own length n.

  Attributes:
    tokens: int32 [n], the ids as drawn, the stop id included.
    sampler_logprobs: float32 [n], log probability of each token under the sampler's parameters at the sampling
      temperature, before any truncation (top-k, top-p, min-p). This is what training uses.
    drawn_logprobs: float32 [n], log probability under the distribution that the token was really drawn from.
    versions: int32 [n], version (count of optimiser updates) of the parameters that drew each token.
    finish_reason: the reason why it ended.
    generated: bool [n], False on tokens put in by a tool or an environment; None if all tokens were drawn.
  """

  tokens: np.ndarray
  sampler_logprobs: np.ndarray
  drawn_logprobs: np.ndarray
  versions: np.ndarray
  finish_reason: FinishReason
  generated: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Group:
  """Holds a prompt with its G answers and, once they are judged, their rewards.

  Attributes:
    prompt: the prompt.
    answers: the G answers, in sample order.
    texts: the decoded answers, for verifiers and reports.
    components: one float32 [G] array for each reward function, NaN where the function failed or abstained; also the
      length penalty and marks (`rewards.judge`).
    accuracy: float32 [G], the raw correctness in [0, 1], never shaped; dynamic sampling looks at it. NaN where only a
      reward model judges.
    rewards: float32 [G], the weighted sum of the components plus length shaping; advantages are computed from it.
    valid: bool [G], False where a reward function failed or all abstained: such an answer has no reward, which is not
      a reward of 0.
  """

  prompt: Prompt
  answers: tuple[Answer, ...]
  texts: tuple[str, ...] = ()
  components: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  accuracy: np.ndarray | None = None
  rewards: np.ndarray | None = None
  valid: np.ndarray | None = None

  @property
  def lengths(self) -> np.ndarray:
    """Counts the tokens of each answer, the stop id included: int32 [G]."""
    return np.array([len(answer.tokens) for answer in self.answers], np.int32)

  @property
  def truncated(self) -> np.ndarray:
    """Marks the answers that reached the cap on new tokens: bool [G]."""
    return np.array([answer.finish_reason == FinishReason.LENGTH for answer in self.answers])


# Fills in the components, accuracy, rewards and validity of groups, in their order.
Judge = Callable[[Sequence[Group]], list[Group]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rollout:
  """Holds P prompts with G answers each, padded for the learner.

  Prompts and answers are padded on the right. Masks are made from lengths, never from token ids (a pad id may equal
  EOS).

  Attributes:
    prompts: int32 [P, Tp], one for each group.
    prompt_lengths: int32 [P].
    answers: int32 [P, G, Tc].
    lengths: int32 [P, G], answer tokens, the stop id included.
    generated: bool [P, G, Tc], True on tokens that the policy drew; False on padding and on tokens put in by tools.
    finish_reasons: int32 [P, G], a `FinishReason`.
    sampler_logprobs: float32 [P, G, Tc], untruncated, at the sampling temperature; 0 where not generated.
    drawn_logprobs: float32 [P, G, Tc], under the distribution really drawn from; 0 where not generated.
    versions: int32 [P, G, Tc], version of the parameters that drew the token; 0 where not generated.
    accuracy: float32 [P, G], raw correctness in [0, 1]; 0 where not valid.
    rewards: float32 [P, G], shaped; 0 where not valid.
    valid: bool [P, G], False where there is no reward.
  """

  prompts: jax.Array | np.ndarray
  prompt_lengths: jax.Array | np.ndarray
  answers: jax.Array | np.ndarray
  lengths: jax.Array | np.ndarray
  generated: jax.Array | np.ndarray
  finish_reasons: jax.Array | np.ndarray
  sampler_logprobs: jax.Array | np.ndarray
  drawn_logprobs: jax.Array | np.ndarray
  versions: jax.Array | np.ndarray
  accuracy: jax.Array | np.ndarray
  rewards: jax.Array | np.ndarray
  valid: jax.Array | np.ndarray
