"""Lets an engine draw with the memory of other engines that are idle."""

from collections.abc import Iterable, Sequence

from flax import nnx

from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, Prompt


def draw_between(
  engine: Engine, others: Iterable[Engine], params: nnx.State, version: int, prompts: Sequence[Prompt], group_size: int
) -> list[Group]:
  """Draws answers with an engine that holds no memory before and after.

  Args:
    engine: what draws.
    others: give the memory of their caches if no answer is under way in them; they take it again at their next use.
    params: of the engine's model.
    version: of these.
    prompts: what is answered.
    group_size: answers to each.

  Returns:
    One group for each prompt, in their order.
  """
  for other in others:
    if not other.busy:
      other.release()
  engine.load(params, version)
  groups = engine.generate(prompts, group_size)
  engine.unload()
  return groups
