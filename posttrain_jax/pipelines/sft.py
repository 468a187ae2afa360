"""Supervised fine-tuning on demonstrations: a run of its own, or the warm-up of a reinforcement-learning run.

One step is one optimiser update. Batches are found from (seed, step) alone, so a checkpoint holds the state and where
the journal was, nothing else.
"""

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.learner.supervised_learner import SupervisedLearner, check_division
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.pipelines.clock import Clock
from posttrain_jax.pipelines.console import Console
from posttrain_jax.pipelines.evaluator import Evaluator
from posttrain_jax.pipelines.journal import Journal
from posttrain_jax.pipelines.judging import check_answer_style, make_judge, make_workers
from posttrain_jax.pipelines.policy import Policy, load_policy, save_description
from posttrain_jax.pipelines.policy import digests as policy_digests
from posttrain_jax.pipelines.preemption import Preempted, Preemption
from posttrain_jax.pipelines.settings import at_least, build
from posttrain_jax.pipelines.streams import Stream, stream_seed
from posttrain_jax.pipelines.tasks import load_demonstrations
from posttrain_jax.pipelines.workdir import Workdir

_LEAST = {"steps": 0, "max_skipped_updates": 1, "eval.every": 0, "checkpoint.every": 1, "checkpoint.keep": 1}


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Fine-tunes, or goes on with it.

  Args:
    config: see `configs/tiny_sft.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/ and tensorboard/.

  Raises:
    InputError: bad configuration or input, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  with contextlib.ExitStack() as stack:
    at_least(config, _LEAST)
    policy, mesh = load_policy(config.model), make_mesh(config.mesh)
    batches, digests = prepare(config, policy, mesh, config.seed)
    workers = stack.enter_context(make_workers(config.rewards))
    judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
    check_answer_style(config)
    evaluator = Evaluator(config.eval, policy, judge, seed=config.seed, mesh=mesh)
    digests |= evaluator.digests | policy_digests(config.model.path, policy.tokenizer)
    directory = stack.enter_context(Workdir.open(workdir, config, digests))
    preemption = stack.enter_context(Preemption())
    fit(config, policy, mesh, batches, directory.path, evaluator, preemption, seed=config.seed)


def prepare(
  config: ml_collections.ConfigDict, policy: Policy, mesh: jax.sharding.Mesh, seed: int
) -> tuple[SupervisedBatches, dict[str, str]]:
  """Reads and lays out the demonstrations: (batches, digests of the files read); InputError as in `train`."""
  check_division(mesh, batch_size=config.batch_size, micro_batches=config.micro_batches)
  build(OptimizerConfig, config.optimizer, "optimizer")
  return load_demonstrations(
    config.demonstrations,
    policy.tokenizer,
    batch_size=config.batch_size,
    seed=stream_seed(seed, Stream.DEMONSTRATIONS),
  )


def fit(
  config: ml_collections.ConfigDict,
  policy: Policy,
  mesh: jax.sharding.Mesh,
  batches: SupervisedBatches,
  path: pathlib.Path,
  evaluator: Evaluator,
  preemption: Preemption,
  *,
  seed: int,
) -> nnx.State:
  """The loop.

  Args:
    config: a config like `configs/tiny_sft.py`, or the `warmup` section of another.
    policy: what to start from.
    mesh: where.
    batches: the demonstrations.
    path: an existing directory that the run owns.
    evaluator: evaluates every `config.eval.every` steps.
    preemption: whether SIGTERM arrived.
    seed: of random parameters.

  Returns:
    The trained parameters, in the learner's shardings.
  """
  with contextlib.ExitStack() as stack:
    save_description(policy, path)
    learner = SupervisedLearner(
      policy.model,
      build(OptimizerConfig, config.optimizer, "optimizer"),
      mesh,
      micro_batches=config.micro_batches,
      logprob_chunk=config.logprob_chunk,
      max_skipped_updates=config.max_skipped_updates,
      seed=stream_seed(seed, Stream.PARAMS),
      params=policy.params,
    )
    checkpoints = stack.enter_context(Checkpointer(path / "checkpoints", keep=config.checkpoint.keep))
    abstract = abstract_like(learner.state, learner.shardings)
    hand_over = make_handover(
      abstract.params, num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=mesh
    )
    restored = checkpoints.restore(abstract)
    step, best, offsets = 0, -np.inf, None
    if restored is not None:
      learner.state, step, offsets = restored.state, restored.step, restored.extra["journal"]
      best, learner.skipped.in_a_row = restored.extra["best"], restored.extra["skipped_in_a_row"]
    journal = stack.enter_context(Journal(path, offsets, tensorboard=config.logging.tensorboard))
    console = stack.enter_context(Console("sft", config.steps, config.logging.console, done=step))
    if restored is not None and step < config.steps:
      console.say("; ".join([f"going on after step {step}", *restored.notes]))

    clock = Clock()
    first = step + 1
    for step in range(first, config.steps + 1):
      with clock.phase("train"):
        learning_rate = float(learner.learning_rate(int(learner.state.updates)))
        metrics: dict[str, Any] = {"learning_rate": learning_rate, **learner.train(batches.batch(step - 1))}
      last = step == config.steps or preemption.requested
      if config.eval.every and (step % config.eval.every == 0 or step == config.steps):
        with clock.phase("eval"):
          metrics |= evaluator(hand_over(learner.state.params), int(learner.state.updates))[0]
      score = metrics.get(f"eval/{config.eval.best}", -np.inf)
      improved = score > best  # NaN, an evaluation without any verdict, is no improvement
      best = score if improved else best
      save = last or improved or step % config.checkpoint.every == 0
      if save and config.checkpoint.digest:
        metrics["params_sha256"] = params_sha256(learner.state.params)
      journal.write(step, {"updates": int(learner.state.updates), **metrics, **clock.take()})
      console.update(step, metrics)
      if save:
        extra = {"journal": journal.offsets(), "best": float(best), "skipped_in_a_row": learner.skipped.in_a_row}
        checkpoints.save(step, learner.state, extra, best=improved)
      if last:
        break
    checkpoints.wait()
    if preemption.requested and step < config.steps:
      raise Preempted(f"preempted after step {step}, checkpoint saved")
    return learner.state.params


def warm_up(
  config: ml_collections.ConfigDict,
  policy: Policy,
  mesh: jax.sharding.Mesh,
  batches: SupervisedBatches,
  path: pathlib.Path,
  evaluator: Evaluator,
  preemption: Preemption,
) -> Policy:
  """The policy after the warm-up of another run, by that run's `warmup` section, in a directory of its own."""
  path.mkdir(exist_ok=True)
  params = fit(config.warmup, policy, mesh, batches, path, evaluator, preemption, seed=config.seed)
  return dataclasses.replace(policy, params=params)
