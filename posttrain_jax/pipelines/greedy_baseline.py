"""ReMax's baseline (2310.10505): what the policy's most likely answer to a prompt earns."""

from collections.abc import Callable, Sequence

import numpy as np

from posttrain_jax.pipelines.model_rewards import Judge
from posttrain_jax.pipelines.shares import shared
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group


def greedy_rewards(engine: Engine, judge: Judge) -> Callable[[Sequence[Group]], np.ndarray]:
  """A function that gives, for each group's prompt, the reward of the policy's greedy answer.

  Args:
    engine: that of the rollouts; the greedy answers are drawn with the parameters that it has when they are asked for.
    judge: fills in rewards.

  Returns:
    Groups to float32 [number of groups], NaN where there is no verdict.
  """
  greedy = Engine(
    engine.model,
    SamplingConfig(temperature=0.0, stop_ids=engine.sampling.stop_ids),
    seed=engine.seed,
    slots=engine.slots,
    max_prompt_length=engine.max_prompt_length,
    max_new_tokens=engine.max_new_tokens,
    mesh=engine.mesh,
  )

  def rewards(groups: Sequence[Group]) -> np.ndarray:
    greedy.load(engine.params, engine.version)
    judged = shared([group.prompt for group in groups], lambda own: judge(greedy.generate(own, 1)))
    greedy.release()
    return np.array([group.rewards[0] if group.valid[0] else np.nan for group in judged], np.float32)

  return rewards
