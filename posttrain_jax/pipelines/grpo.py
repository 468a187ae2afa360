"""The GRPO/DAPO loop: sample groups, judge them, train on the informative ones, hand the parameters back.

GRPO (2402.03300) and DAPO (2503.14476) are this loop with other options, each of which switches on its own: dynamic
sampling (`dynamic_sampling`), clip-higher (`objective.clip_low`, `clip_high`), what the loss averages over
(`objective.aggregation`), the soft overlong penalty (`overlong.penalty_buffer`), overlong filtering
(`overlong.filter`), and the KL term (`objective.kl_coefficient`).

A step is one rollout and the optimiser updates on it. Old logprobs are the learner's own at the start of the step: its
first update is on-policy, so one forward serves for both; for the others they are computed before the first. A
checkpoint is made at a step's end, where nothing is in flight, and holds all that the next step depends on: a run that
was killed goes on bit for bit.

Deviation from DAPO: with `dynamic_sampling.admission="drain"` a few groups are one or two steps stale; they are
weighted by `objective.correction`.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from posttrain_jax import losses
from posttrain_jax.evaluation.report import write_report
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.pipelines import batch as batches
from posttrain_jax.pipelines.console import Console
from posttrain_jax.pipelines.dynamic_sampling import AtCap, Collected
from posttrain_jax.pipelines.group_json import rollout_record
from posttrain_jax.pipelines.grpo_parts import Parts, assemble
from posttrain_jax.pipelines.journal import Journal
from posttrain_jax.pipelines.judging import OverlongFilter
from posttrain_jax.pipelines.preemption import Preempted
from posttrain_jax.pipelines.rollout_metrics import token_cost
from posttrain_jax.types import Group, Rollout


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Runs the loop, or goes on with it.

  Args:
    config: see `configs/tiny_dapo.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, rollouts/, tensorboard/ and report.html.

  Raises:
    InputError: bad configuration or input, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    SamplingCapReached: a step did not find enough informative groups, and the config says `error`.
    Diverged: `learner.max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  with contextlib.ExitStack() as stack:
    parts = assemble(config, workdir, stack)
    directory, learner, collector = parts.directory, parts.learner, parts.collector
    checkpoints = stack.enter_context(Checkpointer(directory.checkpoints, keep=config.checkpoint.keep))
    restored = checkpoints.restore(abstract_like(learner.state, learner.shardings))
    best, step, first = -np.inf, 0, 0
    if restored is not None:
      learner.state, step, first = restored.state, restored.step, restored.step + 1
      if restored.extra["stopped"]:  # at the cap on prompts, which ends a run for good
        first = config.steps + 1
      collector.restore(restored.extra["collector"])
      learner.skipped.in_a_row, best = restored.extra["skipped_in_a_row"], restored.extra["best"]
    offsets = None if restored is None else restored.extra["journal"]
    journal = stack.enter_context(Journal(directory.path, offsets, tensorboard=config.logging.tensorboard))
    console = stack.enter_context(Console("train", config.steps, config.logging.console, done=step))
    if restored is not None:
      console.say("; ".join([f"going on after step {step}", *restored.notes]))

    clock = parts.clock
    clock.take()  # what came before the first step, a warm-up above all, is not the first step's time
    parts.hand_over()
    # Step 0 is the policy as it came: evaluated, not trained.
    for step in range(first, config.steps + 1):
      metrics: dict[str, Any] = {}
      stop = False
      if step > 0:
        with clock.phase("rollout"):
          collected = collector.collect()
        stop = collected.at_cap and parts.at_cap == AtCap.STOP
        metrics |= collected.metrics
      if step > 0 and not stop:
        with clock.phase("train"):
          rollout, advantages = make_rollout(parts, collected.trained)
          mask = batches.training_mask(rollout, overlong_filter=parts.overlong_filter == OverlongFilter.LOSS)
          metrics |= token_cost(metrics["sampling/tokens_generated"], int(mask.sum()))
          metrics["learning_rate"] = float(learner.learning_rate(learner.version))
          metrics |= learner.train(batches.policy_batch(rollout, advantages[..., None], mask))
        with clock.phase("handover"):
          parts.hand_over()
        if step % config.logging.rollouts_every == 0 or step in (1, config.steps):
          journal.write_rollouts(step, _records(parts, step, collected, advantages))

      last = stop or step == config.steps or parts.preemption.requested
      if config.eval.every and (step % config.eval.every == 0 or step == config.steps or stop):
        with clock.phase("eval"):
          metrics |= parts.evaluator(parts.engine.params, learner.version)[0]
      score = metrics.get(f"eval/{config.eval.best}", -np.inf)
      improved = score > best  # NaN, an evaluation without any verdict, is no improvement
      best = score if improved else best
      save = last or improved or (step > 0 and step % config.checkpoint.every == 0)
      if save and config.checkpoint.digest:
        metrics["params_sha256"] = params_sha256(learner.state.params)
      journal.write(step, {"updates": learner.version, **metrics, **clock.take()})
      console.update(step, metrics)
      if save:
        extra = {
          "collector": collector.state(),
          "journal": journal.offsets(),
          "skipped_in_a_row": learner.skipped.in_a_row,
          "best": float(best),
          "stopped": stop,
        }
        checkpoints.save(step, learner.state, extra, best=improved)
      if last:
        break
    checkpoints.wait()
    if parts.preemption.requested and step < config.steps:
      raise Preempted(f"preempted after step {step}, checkpoint saved")
  if config.logging.report:
    write_report(directory.path)


def make_rollout(parts: Parts, groups: Sequence[Group]) -> tuple[Rollout, np.ndarray]:
  """Pads groups and computes their advantages, float32 [P, G]."""
  engine = parts.engine
  rollout = batches.stack_groups(
    groups,
    count=parts.collector.groups,
    group_size=parts.collector.group_size,
    prompt_width=engine.max_prompt_length,
    answer_width=engine.max_new_tokens,
  )
  function = getattr(losses.advantages, parts.advantage.value)
  return rollout, np.asarray(function(rollout.rewards, valid=rollout.valid))


def _records(parts: Parts, step: int, collected: Collected, advantages: np.ndarray) -> list[dict[str, Any]]:
  """What rollouts/ shows of a step: what was trained on, then what was dropped or carried."""
  decode = parts.policy.tokenizer.decode
  trained = [(group, "trained", advantages[i]) for i, group in enumerate(collected.trained)]
  others = [(group, outcome, None) for group, outcome in collected.judged if outcome != "trained"]
  return [
    rollout_record(step, group, str(outcome), values, decode(group.prompt.tokens))
    for group, outcome, values in trained + others
  ]
