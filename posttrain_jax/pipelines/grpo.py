"""Runs the GRPO/DAPO loop: collect groups, compute logprobs and advantages, update, hand the parameters over.

GRPO (2402.03300) and DAPO (2503.14476) are this loop with other options, each of which switches on its own: dynamic
sampling (`dynamic_sampling`), clip-higher (`objective.clip_low`, `clip_high`), what the loss averages over
(`objective.aggregation`), the soft overlong penalty (`overlong.penalty_buffer`), overlong filtering
(`overlong.filter`), and the KL term (`objective.kl_coefficient`). So are Dr. GRPO, RLOO, REINFORCE++, GSPO, CISPO,
ReMax and the others (`configs/tiny_rl.py`): they name another estimator of advantages (`advantage`, a function of
`losses.advantages`) or another surrogate (`objective.surrogate`, a function of `losses.policy`).

A step is one rollout and the optimiser updates on it. Old logprobs are the learner's own at the start of the step. Its
first update is on-policy, so one forward pass serves for learner and old logprobs; for the other updates the old ones
are computed before the first. A checkpoint is made at a step's end, while the engine is idle, and holds all that the
next step depends on, unfinished answers included. So a run that was killed goes on bit for bit.

To read on: `rollouts.collector` (which groups a step trains on), `pipelines.policy_batches` (masks),
`pipelines.advantages`, `losses.group_advantages`, `learner.policy_gradient` (the loss and what it is divided by),
`losses.token_surrogates`.

Deviation from DAPO: with `dynamic_sampling.admission="drain"` a few groups are one or two steps stale, with "carry"
many are, by up to `dynamic_sampling.max_staleness` steps. Their tokens are weighted by `objective.correction`.
"""

import contextlib
import dataclasses
from typing import Any

import ml_collections
import numpy as np

from posttrain_jax.assembly.judges import OverlongFilter
from posttrain_jax.learner.packing import Packings
from posttrain_jax.learner.state import abstract_like, train_state_of, with_more
from posttrain_jax.parallel.memory import keep
from posttrain_jax.pipelines.advantages import step_advantages
from posttrain_jax.pipelines.grpo_parts import GRPOParts, assemble
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.policy_batches import policy_batch, stack_groups, training_mask
from posttrain_jax.reports.end import end_run
from posttrain_jax.rollouts import group_arrays, silent_steps
from posttrain_jax.rollouts.collector import Collected
from posttrain_jax.rollouts.dynamic_sampling import AtCap, Outcome
from posttrain_jax.rollouts.group_json import rollout_record
from posttrain_jax.rollouts.metrics import token_cost
from posttrain_jax.runs.keeper import Keeper
from posttrain_jax.runs.settings import parse


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Runs the loop, or goes on with a run that was stopped.

  Args:
    config: see `configs/tiny_dapo.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, rollouts/, tensorboard/ and report.html.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    SamplingCapReached: if a step does not find enough informative groups and the config says `error`.
    Diverged: if `learner.max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  settings = parse(GRPOSettings, config)
  with contextlib.ExitStack() as stack:
    parts = assemble(settings, workdir, stack)
    learner, engine, collector, logprobs = parts.learner, parts.engine, parts.collector, parts.logprobs
    keeper, first = _restore(settings, parts, stack)
    clock = keeper.clock
    parts.hand_over()

    # Step 0 evaluates the policy that training starts from, and trains nothing.
    for step in range(first, settings.steps + 1):
      metrics: dict[str, Any] = {}
      stop = step > 0 and parts.out_of_budget
      if stop:
        keeper.say(f"the target was asked {parts.target.questions} times, and step {step} could exceed its budget")
      if step > 0 and not stop:
        if _refreshes(settings, parts) and step > 1 and (step - 1) % settings.reference.refresh_every == 0:
          logprobs.refresh_reference()
        with clock.phase("rollout"):
          collected = collector.collect()
          engine.release()  # the learner gets the memory of the caches
        stop = collected.at_cap and settings.dynamic_sampling.at_cap == AtCap.STOP
        metrics |= collected.metrics
        if parts.target is not None:
          metrics["target/questions"] = parts.target.questions

      if step > 0 and not stop:
        with clock.phase("train"):
          greedy_rewards = parts.greedy_rewards(collected.trained) if parts.greedy_rewards else None
          engine.unload()  # the learner gets the memory of the sampler's parameters, too
          rollout = stack_groups(collected.trained, parts.shape)
          mask = training_mask(rollout, overlong_filter=settings.overlong.filter == OverlongFilter.LOSS)
          batch = policy_batch(rollout, mask, right_above=settings.dynamic_sampling.right_above)
          packings = Packings()
          found = logprobs(batch, packings)
          advantages = step_advantages(
            parts.estimator,
            rollout,
            mask,
            found,
            kl_in_reward=settings.reference.kl_in_reward,
            greedy_rewards=greedy_rewards,
          )
          batch = dataclasses.replace(
            batch, advantages=advantages, old_logprobs=found.old, reference_logprobs=found.reference
          )
          metrics[silent_steps.TRAINED_NOTHING] = float(silent_steps.trained_nothing(advantages, mask))
          metrics |= token_cost(metrics["sampling/tokens_generated"], int(mask.sum()))
          metrics["learning_rate"] = float(learner.learning_rate(learner.version))
          metrics |= learner.train(batch, packings=packings)
        with clock.phase("handover"):
          parts.hand_over()
        judged = [group for group, _ in collected.judged]
        for line in parts.silent.lines(step, metrics, judged or collected.trained, parts.find_answer):
          keeper.say(line)
        if step % settings.logging.rollouts_every == 0 or step in (1, settings.steps) or parts.silent.shown:
          keeper.journal.write_rollouts(step, _records(parts, step, collected, advantages))
        if settings.logging.groups_every and step % settings.logging.groups_every == 0:
          keeper.journal.write_groups(step, group_arrays.pack(collected.trained))

      if keeper.evaluates(step, last=stop):
        with clock.phase("eval"):
          metrics |= parts.evaluate()

      def extra(stop=stop) -> dict[str, Any]:
        skipped = learner.skipped.in_a_row
        target = {} if parts.target is None else {"target": parts.target.state()}
        return {"collector": collector.state(), "skipped_in_a_row": skipped, "stopped": stop, **target}

      metrics = {"updates": learner.version, **metrics}
      if keeper.end(
        step, metrics, _saved(settings, parts), learner.state.params, extra, files=collector.saved_files, stop=stop
      ):
        break
    keeper.finish()
    if parts.silent.ending:
      keeper.say(parts.silent.ending)
  end_run(parts.directory.path, report=settings.logging.report)


def _refreshes(settings: GRPOSettings, parts: GRPOParts) -> bool:
  return parts.logprobs.reference is not None and settings.reference.refresh_every > 0


def _saved(settings: GRPOSettings, parts: GRPOParts) -> Any:
  """Returns the state of a checkpoint; it has the reference if the run replaces it."""
  state = parts.learner.state
  return with_more(state, reference=parts.logprobs.reference) if _refreshes(settings, parts) else state


def _restore(settings: GRPOSettings, parts: GRPOParts, stack: contextlib.ExitStack) -> tuple[Keeper, int]:
  """Opens checkpoints and journal, and restores all parts; returns (keeper, next step)."""
  learner, shardings = parts.learner, parts.learner.shardings
  if _refreshes(settings, parts):
    kept = keep(learner.scorer.shardings, parts.logprobs.reference_kept)
    shardings = with_more(learner.shardings, reference=kept)
  keeper = Keeper(
    stack,
    parts.directory.path,
    settings,
    abstract_like(_saved(settings, parts), shardings),
    title="train",
    preemption=parts.preemption,
    clock=parts.clock,
    data=parts.data,
  )
  if keeper.restored is None:
    return keeper, 0
  saved, state = keeper.restored.extra, keeper.restored.state
  learner.state = train_state_of(state) if _refreshes(settings, parts) else state
  if _refreshes(settings, parts):
    parts.logprobs.reference = state["reference"]
  learner.skipped.in_a_row = saved["skipped_in_a_row"]
  parts.collector.restore(saved["collector"], keeper.restored.path)
  if parts.target is not None:
    parts.target.restore(saved["target"])
  # A run that stopped at the cap on prompts, or at the budget of a target, does not go on.
  return keeper, settings.steps + 1 if saved["stopped"] else keeper.step + 1


def _records(parts: GRPOParts, step: int, collected: Collected, advantages: np.ndarray) -> list[dict[str, Any]]:
  """Returns the records of a step for rollouts/: groups trained on, then those dropped or carried."""
  decode = parts.policy.tokenizer.decode
  advantages = advantages[..., 0]  # of an answer's first token, where they differ
  trained = [(group, Outcome.TRAINED, advantages[i]) for i, group in enumerate(collected.trained)]
  others = [(group, outcome, None) for group, outcome in collected.judged if outcome != Outcome.TRAINED]
  return [
    rollout_record(step, group, str(outcome), values, decode(group.prompt.tokens), parts.find_answer)
    for group, outcome, values in trained + others
  ]
