"""Runs PPO with its four models.

Policy and value model are trained, reference and reward model are frozen.

"Proximal Policy Optimization Algorithms" (1707.06347) as InstructGPT (2203.02155) runs it. A step is one rollout and
the updates on it: `learner.epochs` times over its prompts, shuffled anew each time, `learner.minibatches` updates an
epoch of the policy and as many of the value model. The KL to the reference is charged token by token in the reward. The
first `value.pretraining_steps` steps train the value model alone.

Options, each on its own: value clipping, whitening of rewards (without shifting their mean) and of advantages, an
adaptive KL coefficient, a score for answers without an end, PPO-ptx, an average of the policy; and VAPO's
(2504.05118) length-adaptive λ and likelihood of correct answers.

A checkpoint is made at a step's end and holds policy, value model, average, KL coefficient and the position in the
prompts. The reference is the policy that training started from; a resumed run loads it again from its source.

Deviation from InstructGPT: the average is taken once a step, not after each update.
"""

import contextlib
import dataclasses
import functools
from typing import Any

import ml_collections
import numpy as np
from flax import nnx

from posttrain_jax.assembly.rollout_engine import describe_ends
from posttrain_jax.learner.packing import Packings
from posttrain_jax.learner.state import TrainState, abstract_like, train_state_of, with_more
from posttrain_jax.pipelines.ppo_advantages import estimate
from posttrain_jax.pipelines.ppo_parts import PPOParts, assemble
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.reports.end import end_run
from posttrain_jax.rewards import extract
from posttrain_jax.rollouts import silent_steps
from posttrain_jax.rollouts.dynamic_sampling import Outcome
from posttrain_jax.rollouts.group_json import rollout_record
from posttrain_jax.rollouts.metrics import token_cost
from posttrain_jax.runs.keeper import Keeper
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import Group


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Runs the loop, or goes on with a run that was stopped.

  Args:
    config: see `configs/tiny_ppo.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, rollouts/, tensorboard/ and report.html.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: if `learner.max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  settings = parse(PPOSettings, config)
  minibatch_seed = stream_seed(settings.seed, Stream.MINIBATCHES)
  with contextlib.ExitStack() as stack:
    parts = assemble(settings, workdir, stack)
    policy, value, engine, stream = parts.learner, parts.value, parts.engine, parts.stream
    average, kl_coefficient, first = parts.start_average(), settings.kl.coefficient, 0
    abstract = abstract_like(policy.state, policy.shardings)
    keeper = Keeper(
      stack,
      parts.directory.path,
      settings,
      _saved(abstract, abstract_like(value.state, value.shardings), None if average is None else abstract.params),
      title="ppo",
      preemption=parts.preemption,
      clock=parts.clock,
      data=f"{len(stream)} prompts; {describe_ends(parts.policy.tokenizer, engine.sampling)}",
    )
    clock, silent = keeper.clock, silent_steps.SilentSteps()
    find_answer = functools.partial(extract.find_answer, style=settings.eval.answer_style)
    if keeper.restored is not None:
      state, extra, first = keeper.restored.state, keeper.restored.extra, keeper.step + 1
      policy.state = train_state_of(state)
      value.state, average = state["value"], state.get("average")
      kl_coefficient, stream.position = extra["kl_coefficient"], extra["position"]
      policy.skipped.in_a_row, value.skipped.in_a_row = extra["skipped_in_a_row"], extra["value_skipped_in_a_row"]
    parts.hand_over()

    # Step 0 evaluates the policy that training starts from, and trains nothing.
    for step in range(first, settings.steps + 1):
      metrics: dict[str, Any] = {}
      if step:
        with clock.phase("rollout"):
          groups = engine.generate(stream.next(settings.rollout.groups), settings.rollout.group_size)
          engine.unload()  # the learners get the memory of the caches and of the sampler's parameters
        with clock.phase("reward"):
          groups = parts.judge(groups)
        metrics |= parts.describe(groups)

        with clock.phase("train"):
          batch, scores = parts.batch(groups)
          packings = Packings()
          old_logprobs = policy.score(batch, packings)
          reference_logprobs = parts.reference_logprobs(batch, packings)
          values = value.values(batch, packings)
          advantages, returns, found = estimate(
            scores,
            old_logprobs,
            reference_logprobs,
            values,
            batch.mask,
            kl_coefficient=kl_coefficient,
            kl_penalty=settings.kl,
            estimator=settings.gae,
            whitening=settings.whiten,
          )
          metrics[silent_steps.TRAINED_NOTHING] = float(silent_steps.trained_nothing(advantages, batch.mask))
          metrics |= found | token_cost(metrics["sampling/tokens_generated"], int(batch.mask.sum()))
          metrics |= {"kl/coefficient": kl_coefficient, "learning_rate": float(policy.learning_rate(policy.version))}

          order = epoch_orders(len(groups), epochs=settings.learner.epochs, seed=minibatch_seed, step=step)
          metrics |= value.fit(batch, old_values=values, returns=returns, order=order, packings=packings)
          if step > settings.value.pretraining_steps:
            batch = dataclasses.replace(batch, advantages=advantages, old_logprobs=old_logprobs)
            if settings.objective.kl_coefficient:
              batch = dataclasses.replace(batch, reference_logprobs=reference_logprobs)
            # `kl/reference` is that of the step's answers also if the loss has a KL term, which reports one by updates.
            metrics |= policy.train(batch, order=order, packings=packings) | {"kl/reference": found["kl/reference"]}
            answers = int(batch.mask.any(-1).sum())
            kl_coefficient = settings.kl.adapted(kl_coefficient, found["kl/answer"], answers)
            if average is not None:
              average = parts.into_average(average, policy.state.params)

        with clock.phase("handover"):
          parts.hand_over()
        for line in silent.lines(step, metrics, groups, find_answer):
          keeper.say(line)
        if step % settings.logging.rollouts_every == 0 or step in (1, settings.steps):
          keeper.journal.write_rollouts(step, _records(parts, step, groups, advantages))

      if keeper.evaluates(step):
        with clock.phase("eval"):
          metrics |= parts.evaluate(average)
      metrics = {"updates": policy.version, **metrics}
      extra = {
        "position": stream.position,
        "kl_coefficient": kl_coefficient,
        "skipped_in_a_row": policy.skipped.in_a_row,
        "value_skipped_in_a_row": value.skipped.in_a_row,
      }
      saved = _saved(policy.state, value.state, average)
      if keeper.end(step, metrics, saved, policy.state.params, lambda extra=extra: extra):
        break
    keeper.finish()
    if silent.ending:
      keeper.say(silent.ending)
  end_run(parts.directory.path, report=settings.logging.report)


def _saved(policy: TrainState, value: TrainState, average: nnx.State | None) -> dict[str, Any]:
  """Returns the state that a checkpoint holds, or its abstract form."""
  return with_more(policy, value=value, **({} if average is None else {"average": average}))


def _records(parts: PPOParts, step: int, groups: list[Group], advantages: np.ndarray) -> list[dict[str, Any]]:
  """Returns the records of a step for rollouts/, with the advantage of each answer's first token."""
  decode = parts.policy.tokenizer.decode
  return [
    rollout_record(step, group, Outcome.TRAINED.value, advantages[i, :, 0], decode(group.prompt.tokens))
    for i, group in enumerate(groups)
  ]


def epoch_orders(count: int, *, epochs: int, seed: int, step: int) -> list[np.ndarray]:
  """Returns the order of a step's prompts in each epoch; depends on (seed, step) only.

  A minibatch is as many of them in a row as an update takes; the answers of a prompt stay together.

  Args:
    count: prompts of the step.
    epochs: how often each prompt is trained on.
    seed: of the stream of minibatches.
    step: of the run.

  Returns:
    int [count] for each epoch, a permutation.
  """
  return [np.random.default_rng((seed, step, epoch)).permutation(count) for epoch in range(epochs)]
