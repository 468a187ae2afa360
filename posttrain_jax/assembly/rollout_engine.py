"""Makes the engine that draws rollouts, from a config's `rollout` section."""

import dataclasses
import functools
from collections.abc import Sequence

from absl import logging
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.learner.division import Division, division_of
from posttrain_jax.parallel.processes import local_mesh, part_of
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import InputError, Prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingSettings:
  """Holds a config's fields about drawing tokens; `sampling.draw.SamplingConfig` says what they mean."""

  temperature: float
  top_k: int
  top_p: float
  min_p: float
  stop_ids: tuple[int, ...]
  stop_strings: tuple[str, ...]

  def __post_init__(self):
    self.with_stops(())  # refuses what is out of range, so that `runs.settings.parse` names the field in full

  def with_stops(self, stop_ids: tuple[int, ...]) -> SamplingConfig:
    """Returns the engine's record: these fields, and further ids that end an answer."""
    stop_ids = tuple(dict.fromkeys([*stop_ids, *self.stop_ids]))
    return SamplingConfig(self.temperature, self.top_k, self.top_p, self.min_p, stop_ids, self.stop_strings)

  def of_tokenizer(self, tokenizer: Tokenizer, where: str) -> SamplingConfig:
    """Returns the engine's record with all that ends an answer; warns where nothing does.

    Args:
      tokenizer: the model's; its stop ids are taken besides the config's.
      where: the section's dotted name.

    Raises:
      InputError: if a stop id of the config is not an id of the tokeniser.
    """
    for stop in self.stop_ids:
      if stop < 0 or tokenizer.backend.id_to_token(stop) is None:
        raise InputError(f"{where}.stop_ids: {stop}, expected ids of the tokeniser")
    found = self.with_stops(tokenizer.stop_ids)
    if not (found.stop_ids or found.stop_strings):
      _warn_of_no_end(where)
    return found


@functools.cache  # once for each section
def _warn_of_no_end(where: str) -> None:
  logging.warning(
    "%s: nothing ends an answer but its cap, as the model names no end token; expected stop_ids or stop_strings", where
  )


def describe_ends(tokenizer: Tokenizer, sampling: SamplingConfig | None = None) -> str:
  """Words what ends an answer, such as "answers end at 2 '<|im_end|>'".

  Args:
    tokenizer: the model's.
    sampling: an engine's; None for the tokeniser's stop ids alone.
  """
  stop_ids, strings = (tokenizer.stop_ids, ()) if sampling is None else (sampling.stop_ids, sampling.stop_strings)
  ends = [f"{stop} {tokenizer.backend.id_to_token(stop)!r}" for stop in stop_ids]
  ends += [f"the text {stop!r}" for stop in strings]
  return f"answers end at {', '.join(ends)}" if ends else "nothing ends an answer but its cap"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSettings:
  """Holds what a config says of an engine.

  Attributes:
    slots: answers drawn at the same time.
    max_prompt_length: limit on prompts in tokens.
    max_new_tokens: cap on an answer in tokens.
    sampling: how tokens are drawn.
  """

  slots: int
  max_prompt_length: int
  max_new_tokens: int
  sampling: SamplingSettings

  def sizes(self, longest: int, share: int) -> Sizes:
    """Returns the engine's sizes, for all processes together.

    Args:
      longest: tokens of the longest prompt that it will be given; its caches are no longer than that needs.
      share: answers that read one copy of their prompt.
    """
    return Sizes(slots=self.slots, max_prompt_length=longest, max_new_tokens=self.max_new_tokens, share=share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupSettings(EngineSettings):
  """Holds what a config says of rollouts in groups.

  Attributes:
    groups: N, prompts that a step samples.
    group_size: G, answers to each.
  """

  groups: int = at_least(1)
  group_size: int = at_least(1)

  def check_updates(self, updates: int, where: str) -> None:
    """Checks that a step's groups can be dealt to its updates.

    Args:
      updates: optimiser updates on the same groups.
      where: the config field that has this number.

    Raises:
      InputError: if it does not divide the number of groups.
    """
    if self.groups % updates:
      raise InputError(f"{where}: {updates} does not divide rollout.groups = {self.groups}")

  def division(self, updates: int, tokens_per_micro_batch: int) -> Division:
    """Returns how a step's groups are cut into updates and micro-batches.

    Args:
      updates: optimiser updates on the same groups; divides their number.
      tokens_per_micro_batch: the config's field; 0 for a chosen number.

    Raises:
      InputError: if a micro-batch cannot hold the longest prompt with the longest answer.
    """
    prompts = self.groups // updates
    return division_of(
      tokens_per_micro_batch,
      prompts=prompts,
      group=self.group_size,
      prompt=self.max_prompt_length,
      answer=self.max_new_tokens,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutSettings(GroupSettings):
  """Holds the `rollout` section of methods that train on what they draw.

  Attributes:
    steps_per_dispatch: tokens that each slot draws between two looks at what has finished.
    prefill_chunk: tokens of a chunk, in which prompts are prefilled.
    prefill_width: chunks in one prefill.
    prefills_per_dispatch: most prefills that running answers wait for between two dispatches.
    train_on_truncated: whether answers drawn with top_k, top_p or min_p may be trained on.
    cache_tokens: tokens of prompts and answers that the caches hold together; None: from the devices' memory.
  """

  steps_per_dispatch: int
  prefill_chunk: int
  prefill_width: int
  prefills_per_dispatch: int
  train_on_truncated: bool
  cache_tokens: int | None = None

  def sizes(self, longest: int, share: int) -> Sizes:
    """Returns the engine's sizes, as `EngineSettings.sizes` does."""
    return dataclasses.replace(
      super().sizes(longest, share),
      steps_per_dispatch=self.steps_per_dispatch,
      prefill_chunk=self.prefill_chunk,
      prefill_width=self.prefill_width,
      prefills_per_dispatch=self.prefills_per_dispatch,
      cache_tokens=self.cache_tokens,
    )


def own_sizes(settings: EngineSettings, longest: int, share: int) -> Sizes:
  """Returns an engine's sizes, of which slots and caches are this process's part.

  Args:
    settings: the config's section, for all processes together.
    longest: tokens of the longest prompt.
    share: answers that read one copy of their prompt.

  Raises:
    InputError: if the processes do not divide the slots or the caches.
  """
  sizes = settings.sizes(longest, share)
  own = {"slots": part_of(sizes.slots, "rollout.slots")}
  if sizes.cache_tokens is not None:
    own["cache_tokens"] = part_of(sizes.cache_tokens, "rollout.cache_tokens")
  return dataclasses.replace(sizes, **own)


def make_engine(
  settings: EngineSettings, policy: Policy, mesh: Mesh, *, seed: int, max_prompt_length: int, share: int = 1
) -> Engine:
  """Makes an engine from a config's section about one.

  Args:
    settings: slots, caps and sampling.
    policy: model and tokeniser.
    mesh: the learner's. With several processes the engine is on this one's part of it and has its part of the slots
      and of `cache_tokens`.
    seed: of the draws.
    max_prompt_length: tokens of the longest prompt that it will be given; its caches are no longer than that needs.
    share: answers that read one copy of their prompt.

  Raises:
    InputError: if the sizes mean nothing.
  """
  return Engine(
    policy.model,
    settings.sampling.of_tokenizer(policy.tokenizer, "rollout.sampling"),
    own_sizes(settings, max_prompt_length, share),
    seed=seed,
    decode=policy.tokenizer.decode,
    mesh=local_mesh(mesh),
  )


def longest(prompts: Sequence[Prompt]) -> int:
  """Returns the number of tokens of the longest prompt."""
  return max(len(prompt.tokens) for prompt in prompts)


def rollout_engine(
  settings: RolloutSettings, policy: Policy, prompts: Sequence[Prompt], mesh: Mesh, *, seed: int
) -> Engine:
  """Makes the engine of a method that trains on what it draws.

  Args:
    settings: the config's `rollout`.
    policy: model and tokeniser.
    prompts: all that it will be given.
    mesh: the learner's.
    seed: the config's.

  Raises:
    InputError: if the sizes mean nothing, or if samples of top-k, top-p or min-p would be trained on although
      `rollout.train_on_truncated` is not set.
  """
  refuse_truncated(settings)
  return make_engine(
    settings,
    policy,
    mesh,
    seed=stream_seed(seed, Stream.ROLLOUT),
    max_prompt_length=longest(prompts),
    share=settings.group_size,
  )


def refuse_truncated(settings: RolloutSettings) -> None:
  """Refuses to train on truncated samples unless the config allows it."""
  if settings.sampling.with_stops(()).truncates and not settings.train_on_truncated:
    raise InputError(
      "rollout.sampling: top_k, top_p and min_p draw from another distribution than the one that is trained; "
      "expected them off, or rollout.train_on_truncated=True if that is meant"
    )
