"""Runs online and iterative DPO: samples and judges answers, trains on the best and the worst.

A step is one round: `rollout.groups` prompts with `rollout.group_size` answers each, judged by the verifier or by a
reward model (`online.reward_model`), and `learner.updates_per_step` updates on one pair of each prompt whose answers
differ in reward. A few prompts a round are online DPO (2402.04792); a whole data set a round, iterative DPO (Llama 3,
2407.21783, section 4.1). The reference is the policy of the last refresh: every `online.refresh_every` rounds, 0 for
never. A checkpoint is made at a round's end and holds all that the next round depends on, the reference included.
"""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from flax import nnx

from posttrain_jax import progress
from posttrain_jax.assembly.rollout_engine import describe_ends
from posttrain_jax.evaluation.reference_logprobs import compute_logprobs, frozen_copy
from posttrain_jax.learner.preference_batch import ReferencedBatch
from posttrain_jax.learner.state import abstract_like, train_state_of, with_more
from posttrain_jax.pipelines.online_dpo_parts import OnlineDPOParts, OnlineDPOSettings, assemble
from posttrain_jax.reports.end import end_run
from posttrain_jax.rewards import extract
from posttrain_jax.rollouts import silent_steps
from posttrain_jax.rollouts.metrics import describe_unselected
from posttrain_jax.rollouts.sampled_pairs import best_and_worst, stack_answers
from posttrain_jax.runs.keeper import Keeper
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import Group


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Runs the rounds, or goes on with a run that was stopped.

  Args:
    config: see `configs/tiny_online_dpo.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/ and report.html.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: if `learner.max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  settings = parse(OnlineDPOSettings, config)
  with contextlib.ExitStack() as stack:
    parts = assemble(settings, workdir, stack)
    learner, engine, stream = parts.learner, parts.engine, parts.stream
    reference = frozen_copy(learner.state.params)
    abstract = abstract_like(learner.state, learner.shardings)
    saved = with_more(abstract, reference=abstract.params)
    keeper = Keeper(
      stack,
      parts.directory.path,
      settings,
      saved,
      title="online dpo",
      preemption=parts.preemption,
      data=f"{len(stream)} prompts; {describe_ends(parts.policy.tokenizer, engine.sampling)}",
    )
    first, silent = 0, silent_steps.SilentSteps()
    find_answer = functools.partial(extract.find_answer, style=settings.eval.answer_style)
    if keeper.restored is not None:
      state, extra, first = keeper.restored.state, keeper.restored.extra, keeper.step + 1
      learner.state, reference = train_state_of(state), state["reference"]
      learner.skipped.in_a_row, stream.position = extra["skipped_in_a_row"], extra["position"]
    parts.hand_over()

    # Step 0 evaluates the policy that training starts from, and trains nothing.
    for step in range(first, settings.steps + 1):
      metrics: dict[str, Any] = {}
      if step:
        refresh = settings.online.refresh_every
        if refresh and (step - 1) % refresh == 0:
          reference = frozen_copy(learner.state.params)
        with keeper.clock.phase("rollout"):
          groups = engine.generate(stream.next(settings.rollout.groups), settings.rollout.group_size)
          engine.unload()  # the learner gets the memory of the caches and of the sampler's parameters
        with keeper.clock.phase("reward"):
          groups = parts.judge(groups)
        with keeper.clock.phase("train"):
          metrics |= describe_unselected(groups, engine.take_stats(), version=engine.version)
          metrics |= _update(settings, parts, groups, reference)
          metrics[silent_steps.TRAINED_NOTHING] = float(not metrics["pairs"])
        for line in silent.lines(step, metrics, groups, find_answer):
          keeper.say(line)
        with keeper.clock.phase("handover"):
          parts.hand_over()
      if keeper.evaluates(step):
        with keeper.clock.phase("eval"):
          found, judged = parts.evaluator(engine.params, learner.version)
          metrics |= found
          if parts.kl_to_start is not None:
            metrics |= parts.kl_to_start.of_sets(judged, "kl_to_reference")
      metrics = {"updates": learner.version, **metrics}
      state = with_more(learner.state, reference=reference)
      extra = {"skipped_in_a_row": learner.skipped.in_a_row, "position": stream.position}
      if keeper.end(step, metrics, state, learner.state.params, lambda extra=extra: extra):
        break
    keeper.finish()
    if silent.ending:
      keeper.say(silent.ending)
  end_run(parts.directory.path, report=settings.logging.report)


def _update(
  settings: OnlineDPOSettings, parts: OnlineDPOParts, groups: Sequence[Group], reference: nnx.State
) -> dict[str, float]:
  """Trains on one pair of each group; returns (the updates' mean metrics, number of pairs)."""
  pairs, metrics, updates = best_and_worst(groups), [], settings.learner.updates_per_step
  for update in range(updates):
    dealt = [(group, pair) for group, *pair in pairs[update::updates]]  # in turn, so that every update has its share
    if not dealt:
      continue
    batch = stack_answers(
      dealt,
      count=settings.pairs_per_update,
      answers=2,
      prompt_width=parts.engine.sizes.max_prompt_length,
      answer_width=parts.engine.sizes.max_new_tokens,
    )
    logprobs = np.zeros(batch.lengths.shape, np.float32)
    logprobs[: len(dealt)] = compute_logprobs(parts.scorer, reference, [batch], len(dealt))
    metrics.append(parts.learner.train(ReferencedBatch(batch, logprobs)))
    progress.report("updates", update + 1, updates)
  means = {name: float(np.mean([each[name] for each in metrics])) for name in metrics[0]} if metrics else {}
  return means | {"pairs": len(pairs), "pairs/share": len(pairs) / len(groups)}
