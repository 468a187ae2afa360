"""Compares measured rollouts and updates with the least times that `least_time` computes for them."""

from typing import Any

import jax
import numpy as np

from posttrain_jax.performance import roofline
from posttrain_jax.performance.chips import Chip
from posttrain_jax.performance.counts import Pass
from posttrain_jax.performance.group_counts import rollout_pass, update_pass
from posttrain_jax.performance.learning import make_learner
from posttrain_jax.performance.least_time import least_times
from posttrain_jax.performance.links import Axis
from posttrain_jax.performance.rollout import loaded_engine
from posttrain_jax.performance.step import handover_of, judged_batch
from posttrain_jax.performance.timing import rounded, timed
from posttrain_jax.performance.work import Work
from posttrain_jax.runs.clock import Clock

_ALONE = {name: Axis(1) for name in ("data", "fsdp", "tensor")}


def formula(work: Work, profile: str | None = None) -> dict[str, Any]:
  """Times steps on this machine and compares them with the formula of `experiments.compile`.

  The machine's own peaks, measured in the same process, stand for those of a chip. There must be one device.

  Args:
    work: what is timed.
    profile: directory for a trace of the last step; None for no trace.

  Returns:
    The machine's FLOPs and bytes a second, and what `measured_step` returns.
  """
  machine = roofline.machine(work.model.compute_dtype)
  rates = {
    "machine_flops_per_second": rounded(machine.flops_per_second),
    "machine_bytes_per_second": rounded(machine.bytes_per_second),
  }
  return rates | measured_step(work, machine, profile)


def measured_step(work: Work, chip: Chip | None, profile: str | None = None) -> dict[str, Any]:
  """Times steps: a rollout, an update on what was drawn, and the hand-over.

  Args:
    work: what is timed.
    chip: the peaks of the only device; None if they are not known.
    profile: directory for a trace of the last step; None for no trace.

  Returns:
    "rollout", "update" and "step": medians of seconds and of answer tokens a second, for real tokens. Rollout and
    update have the shares of the chip's peak and of its bandwidth that their work needed, the least seconds that the
    formula allows, and these as a share of the measured seconds; null if the chip is not known. Also the mean length
    of answers, the decode steps, and the seconds of the first step.
  """
  learner, engine, clock = make_learner(work), loaded_engine(work), Clock()
  hand_over = handover_of(learner, engine.mesh, work)
  runs: list[tuple[dict[str, float], Pass, Pass]] = []

  def run(number: int) -> object:
    engine.take_stats()
    clock.take()
    with clock.phase("rollout"):
      groups = engine.generate(work.draw_prompts(number), work.group)
    with clock.phase("update"):
      learner.train(judged_batch(work, groups))
      jax.block_until_ready(learner.state)
    with clock.phase("handover"):
      engine.load(jax.block_until_ready(hand_over(learner.state.params)), learner.version)
    drawn = rollout_pass(work.model, groups, engine.take_stats().decode_steps)
    runs.append((clock.take(), drawn, update_pass(work.model, groups)))
    return learner.state

  found = timed(run, work.runs, profile)
  later = runs[1:]
  tokens = float(np.median([drawn.logits for _, drawn, _ in later]))
  steps = float(np.median([drawn.parts for _, drawn, _ in later]))
  rollout = _phase([(seconds["time/rollout"], drawn) for seconds, drawn, _ in later], chip)
  rollout["decode_step_seconds"] = rounded(rollout["seconds"] / steps)
  return {
    "mean_answer_tokens": rounded(tokens / work.answers),
    "decode_steps": round(steps),
    "rollout": rollout,
    "update": _phase([(seconds["time/update"], update) for seconds, _, update in later], chip),
    "step": {"seconds": rounded(found.median), "tokens_per_second": rounded(tokens / found.median)},
    "first_step_seconds": rounded(found.first),
  }


def _phase(runs: list[tuple[float, Pass]], chip: Chip | None) -> dict[str, Any]:
  """Describes a phase by the medians of its runs."""

  def median(value) -> float:
    return rounded(float(np.median([value(seconds, work) for seconds, work in runs])))

  found = {
    "seconds": median(lambda seconds, work: seconds),
    "tokens_per_second": median(lambda seconds, work: work.logits / seconds),
    "share_of_peak": None,
    "share_of_bandwidth": None,
    "least_seconds": None,
    "share_of_least": None,
    "bound": None,
  }
  if chip is None:
    return found

  def times(work: Pass):
    return least_times(work, chip, _ALONE)

  return found | {
    "share_of_peak": median(lambda seconds, work: times(work).compute / seconds),
    "share_of_bandwidth": median(lambda seconds, work: times(work).memory / seconds),
    "least_seconds": median(lambda seconds, work: times(work).least),
    "share_of_least": median(lambda seconds, work: times(work).least / seconds),
    "bound": times(runs[-1][1]).bound,
  }
