"""The GRPO/DAPO loop: sample groups, judge them, train on the informative ones, hand the parameters back.

GRPO (2402.03300) and DAPO (2503.14476) are this loop with other options, each of which switches on its own: dynamic
sampling (`dynamic_sampling`), clip-higher (`objective.clip_low`, `clip_high`), what the loss averages over
(`objective.aggregation`), the soft overlong penalty (`overlong.penalty_buffer`), overlong filtering
(`overlong.filter`), and the KL term (`objective.kl_coefficient`). So are Dr. GRPO, RLOO, REINFORCE++, GSPO, CISPO,
ReMax and the others (`configs/tiny_rl.py`): they name another estimator of advantages (`advantage`, a function of
`losses.advantages`) or another surrogate (`objective.surrogate`, a function of `losses.policy`).

A step is one rollout and the optimiser updates on it. Old logprobs are the learner's own at the start of the step: its
first update is on-policy, so one forward serves for both; for the others they are computed before the first. A
checkpoint is made at a step's end, where the engine is idle, and holds all that the next step depends on, unfinished
answers included: a run that was killed goes on bit for bit.

Deviation from DAPO: with `dynamic_sampling.admission="drain"` a few groups are one or two steps stale, with "carry"
many are, by up to `dynamic_sampling.max_staleness` steps; their tokens are weighted by `objective.correction`.
"""

import contextlib
from typing import Any

import ml_collections
import numpy as np

from posttrain_jax.learner.state import abstract_like, train_state_of, with_more
from posttrain_jax.parallel.memory import keep
from posttrain_jax.parallel.processes import is_main
from posttrain_jax.pipelines.grpo_parts import Parts, assemble
from posttrain_jax.reports.report import write_report
from posttrain_jax.rollouts.collector import Collected
from posttrain_jax.rollouts.dynamic_sampling import AtCap
from posttrain_jax.rollouts.group_json import group_to_json, rollout_record
from posttrain_jax.rollouts.metrics import token_cost
from posttrain_jax.runs.keeper import Keeper


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
    directory, learner, collector, batches = parts.directory, parts.learner, parts.collector, parts.batches
    refresh = config.reference.refresh_every if batches.reference is not None else 0

    def state() -> Any:
      # A reference that is never replaced is the policy that training started from.
      return with_more(learner.state, reference=batches.reference) if refresh else learner.state

    shardings = learner.shardings
    if refresh:
      kept = keep(learner.scorer.shardings, batches.reference_kept)
      shardings = with_more(learner.shardings, reference=kept)
    keeper = Keeper(
      stack,
      directory.path,
      config,
      abstract_like(state(), shardings),
      title="train",
      preemption=parts.preemption,
      clock=parts.clock,
    )
    clock, first = keeper.clock, 0
    if keeper.restored is not None:
      saved, restored = keeper.restored.extra, keeper.restored.state
      learner.state = train_state_of(restored) if refresh else restored
      batches.reference = restored["reference"] if refresh else batches.reference
      learner.skipped.in_a_row = saved["skipped_in_a_row"]
      collector.restore(saved["collector"])
      # A run that stopped at the cap on prompts has stopped for good.
      first = config.steps + 1 if saved["stopped"] else keeper.step + 1

    parts.hand_over()
    # Step 0 is the policy as it came: evaluated, not trained.
    for step in range(first, config.steps + 1):
      metrics: dict[str, Any] = {}
      stop = False
      if refresh and step > 1 and (step - 1) % refresh == 0:
        batches.refresh_reference()
      if step > 0:
        with clock.phase("rollout"):
          collected = collector.collect()
          parts.engine.release()  # the learner gets the memory of the caches
        stop = collected.at_cap and parts.at_cap == AtCap.STOP
        metrics |= collected.metrics
      if step > 0 and not stop:
        with clock.phase("train"):
          batch = batches(collected.trained)
          metrics |= token_cost(metrics["sampling/tokens_generated"], int(batch.mask.sum()))
          metrics["learning_rate"] = float(learner.learning_rate(learner.version))
          metrics |= learner.train(batch)
        with clock.phase("handover"):
          parts.hand_over()
        if step % config.logging.rollouts_every == 0 or step in (1, config.steps):
          keeper.journal.write_rollouts(step, _records(parts, step, collected, batch.advantages))
        if config.logging.groups_every and step % config.logging.groups_every == 0:
          keeper.journal.write_groups(step, map(group_to_json, collected.trained))

      if keeper.evaluates(step, last=stop):
        with clock.phase("eval"):
          metrics |= parts.evaluate()

      def extra(stop=stop) -> dict[str, Any]:
        skipped = learner.skipped.in_a_row
        return {"collector": collector.state(), "skipped_in_a_row": skipped, "stopped": stop}

      metrics = {"updates": learner.version, **metrics}
      if keeper.end(step, metrics, state(), learner.state.params, extra, stop=stop):
        break
    keeper.finish()
  if config.logging.report and is_main():
    write_report(directory.path)


def _records(parts: Parts, step: int, collected: Collected, advantages: np.ndarray) -> list[dict[str, Any]]:
  """What rollouts/ shows of a step: what was trained on, then what was dropped or carried."""
  decode = parts.policy.tokenizer.decode
  advantages = advantages[..., 0]  # of an answer's first token, where they differ
  trained = [(group, "trained", advantages[i]) for i, group in enumerate(collected.trained)]
  others = [(group, outcome, None) for group, outcome in collected.judged if outcome != "trained"]
  return [
    rollout_record(step, group, str(outcome), values, decode(group.prompt.tokens))
    for group, outcome, values in trained + others
  ]
