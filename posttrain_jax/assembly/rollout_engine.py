"""The engine that draws rollouts, from a config's `rollout` section: GRPO's and PPO's."""

from collections.abc import Sequence

import ml_collections
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.parallel.processes import local_mesh, part_of
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import build
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError, Prompt


def rollout_engine(config: ml_collections.ConfigDict, policy: Policy, prompts: Sequence[Prompt], mesh: Mesh) -> Engine:
  """Makes the engine; caches are no longer than the longest of the prompts needs.

  Args:
    config: `seed` and `rollout` (see `configs/tiny_dapo.py`).
    policy: model and tokeniser.
    prompts: all that it will be given.
    mesh: the learner's. With several processes the engine is on this one's part of it and has its part of the slots.

  Raises:
    InputError: sizes that mean nothing, or sampling from another distribution than the one that is trained.
  """
  rollout = config.rollout
  return Engine(
    policy.model,
    _sampling(config, policy),
    seed=stream_seed(config.seed, Stream.ROLLOUT),
    slots=part_of(rollout.slots, "rollout.slots"),
    max_prompt_length=max(len(prompt.tokens) for prompt in prompts),
    max_new_tokens=rollout.max_new_tokens,
    steps_per_dispatch=rollout.steps_per_dispatch,
    prefill_width=rollout.prefill_width,
    share=rollout.group_size,
    mesh=local_mesh(mesh),
  )


def _sampling(config: ml_collections.ConfigDict, policy: Policy) -> SamplingConfig:
  """How rollouts are drawn; InputError where that is not what is trained, and nobody said that it is meant."""
  stop_ids = policy.tokenizer.stop_ids
  sampling = build(SamplingConfig, config.rollout.sampling, "rollout.sampling", stop_ids=stop_ids)
  if sampling.truncates and not config.rollout.train_on_truncated:
    raise InputError(
      "rollout.sampling: top_k, top_p and min_p draw from another distribution than the one that is trained; "
      "expected them off, or rollout.train_on_truncated=True if that is meant"
    )
  return sampling
