"""Times a whole DAPO step: rollout, verdicts, advantages, update, hand-over; and the hand-over alone."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import losses
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.performance.learning import make_learner
from posttrain_jax.performance.rollout import loaded_engine
from posttrain_jax.performance.timing import timed
from posttrain_jax.performance.work import Work
from posttrain_jax.pipelines.policy_batches import RolloutShape, policy_batch, stack_groups, training_mask
from posttrain_jax.runs.clock import Clock
from posttrain_jax.types import Group


def step(work: Work, profile: str | None = None) -> dict[str, object]:
  """Times steps like those of `pipelines.grpo`, with one update a step.

  Rewards take no time: every other answer of a group counts as right.

  Args:
    work: what is timed.
    profile: directory for a trace of the last step; None for no trace.

  Returns:
    Answer tokens a second, counted at full length, and the median seconds of each phase.
  """
  learner, engine, clock = make_learner(work), loaded_engine(work), Clock()
  hand_over = handover_of(learner, engine.mesh, work)
  phases: list[dict[str, float]] = []

  def run(number: int) -> object:
    clock.take()
    with clock.phase("rollout"):
      groups = engine.generate(work.draw_prompts(number), work.group)
    with clock.phase("train"):
      learner.train(judged_batch(work, groups))
    with clock.phase("handover"):
      engine.load(jax.block_until_ready(hand_over(learner.state.params)), learner.version)
    phases.append(clock.take())
    return learner.state

  found = timed(run, work.runs, profile)
  names = ("rollout", "train", "handover")
  seconds = {name: float(np.median([each[f"time/{name}"] for each in phases[1:]])) for name in names}
  return {
    "answer_tokens_per_second": round(work.answers * work.new_tokens / found.median, 1),
    "phases": {name: round(value, 6) for name, value in seconds.items()},
    "first_call_phases": {name: round(phases[0][f"time/{name}"], 3) for name in names},
    **found.record(),
  }


def handover(work: Work, profile: str | None = None) -> dict[str, object]:
  """Times the hand-over of the parameters from the learner's layout to the sampler's.

  Args:
    work: what is timed.
    profile: directory for a trace of the last hand-over; None for no trace.

  Returns:
    GiB of parameters, and GiB a second.
  """
  learner = make_learner(work)
  hand_over = handover_of(learner, learner.mesh, work)
  found = timed(lambda run: hand_over(learner.state.params), work.runs, profile)
  size = sum(x.nbytes for x in jax.tree.leaves(learner.state.params))
  return {"gib_per_second": round(size / 2**30 / found.median, 4), "gib": round(size / 2**30, 6), **found.record()}


def handover_of(learner: PolicyLearner, mesh: Mesh, work: Work) -> Callable[[nnx.State], nnx.State]:
  """Returns the function that turns the learner's parameters into an engine's on `mesh`."""
  abstract = abstract_like(learner.state.params, learner.shardings.params)
  return make_handover(abstract, num_layers=work.model.num_layers, dtype=work.model.compute_dtype, mesh=mesh)


def judged_batch(work: Work, groups: Sequence[Group]) -> PolicyBatch:
  """Makes the learner's batch of P groups in which every other answer is right."""
  shape = RolloutShape(work.prompts, work.group, work.prompt_length, work.new_tokens)
  rollout = stack_groups([_judged(group) for group in groups], shape)
  advantages = losses.advantages.group_normalized(rollout.rewards)[..., None]
  batch = policy_batch(rollout, training_mask(rollout, overlong_filter=False))
  return dataclasses.replace(batch, advantages=np.asarray(advantages))


def _judged(group: Group) -> Group:
  """Returns the group with every other answer right, beginning with the first."""
  right = (np.arange(len(group.answers)) % 2 == 0).astype(np.float32)
  return dataclasses.replace(group, accuracy=right, rewards=right, valid=np.ones(len(right), bool))
