"""Supervised fine-tuning on demonstrations: a run of its own, or the warm-up of another one.

One step is one optimiser update of `pipelines.offline`. The loss is the negative log-likelihood of what the assistant
said, mean over tokens or with every example weighing the same (`loss_weighting`); `dropout` on the residual branches
may rise with depth (LIMA, 2305.11206). The best checkpoint is kept by any metric of the evaluations: accuracy of
sampled answers, loss on held-out demonstrations (`-validation/loss`), or a reward model's score of sampled answers
(InstructGPT, 2203.02155).
"""

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax
import ml_collections
import rich.console
from flax import nnx

from posttrain_jax.assembly.demonstrations import (
  DemonstrationData,
  encode,
  load_demonstrations,
  read_demonstrations,
)
from posttrain_jax.assembly.judges import check_answer_style, load_reward_model, make_judge, make_workers
from posttrain_jax.assembly.model import Policy, load_policy, save_description
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.data.inspection import inspect_examples
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.evaluation.validation import Validation
from posttrain_jax.learner import supervised
from posttrain_jax.learner.batch_learner import BatchLearner, check_division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.learner.supervised import DropoutRates
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.processes import is_main, local_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.pipelines import offline
from posttrain_jax.reports.report import write_report
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least, build, memory
from posttrain_jax.runs.workdir import Workdir


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Fine-tunes, or goes on with it.

  Args:
    config: see `configs/tiny_sft.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/ and report.html.

  Raises:
    InputError: bad configuration or input, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  with contextlib.ExitStack() as stack:
    policy, mesh = load_policy(config.model), make_mesh(config.mesh)
    kept = memory(config, mesh).optimizer
    data = prepare(config, policy, mesh, config.seed)
    offline.check_best(config, [*config.eval.sets, *(["validation"] if data.validation else [])])
    workers = stack.enter_context(make_workers(config.rewards))
    judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
    check_answer_style(config)
    reward, digests = None, {}
    if config.eval.reward_model:
      model, digests = load_reward_model(config.eval.reward_model, policy.tokenizer, "eval.reward_model")
      reward = model.score_groups
    evaluator = Evaluator(config.eval, policy, judge, seed=config.seed, mesh=mesh, reward=reward)
    digests |= data.digests | evaluator.digests | policy_digests(config.model.path, policy.tokenizer)
    directory = stack.enter_context(Workdir.open(workdir, config, digests))
    preemption = stack.enter_context(Preemption())
    fit(config, policy, mesh, data, directory.path, evaluator, preemption, seed=config.seed, optimizer_kept=kept)
  if config.logging.report and is_main():
    write_report(directory.path)


def inspect(config: ml_collections.ConfigDict, count: int) -> dict[str, float]:
  """Prints the first demonstrations as the model gets them, what is learned in colour; trains nothing.

  Returns:
    What is known of all of them, as in the first record of a run's metrics.
  """
  policy = load_policy(config.model)
  rows, _ = read_demonstrations(config.demonstrations)
  examples, _ = encode(config.demonstrations, rows[:count], policy.tokenizer)
  inspect_examples(examples, policy.tokenizer, rich.console.Console(), count=count)
  return dict(prepare(config, policy, make_mesh(config.mesh), config.seed).facts)


def prepare(config: ml_collections.ConfigDict, policy: Policy, mesh: jax.sharding.Mesh, seed: int) -> DemonstrationData:
  """Reads and lays out the demonstrations and finds the number of steps; InputError as in `train`."""
  offline.check(config)
  check_division(mesh, batch_size=config.batch_size, micro_batches=config.micro_batches)
  build(DropoutRates, config.dropout, "dropout")
  data = load_demonstrations(
    config.demonstrations,
    policy.tokenizer,
    batch_size=config.batch_size,
    weighting=config.loss_weighting,
    seed=stream_seed(seed, Stream.DEMONSTRATIONS),
  )
  offline.set_length(config, data.batches.num_rows)
  build(OptimizerConfig, config.optimizer, "optimizer")
  return data


def fit(
  config: ml_collections.ConfigDict,
  policy: Policy,
  mesh: jax.sharding.Mesh,
  data: DemonstrationData,
  path: pathlib.Path,
  evaluator: Evaluator | None,
  preemption: Preemption,
  *,
  seed: int,
  optimizer_kept: Kept = Kept.DEVICE,
) -> nnx.State:
  """Trains.

  Args:
    config: a config like `configs/tiny_sft.py`, or the `warmup` section of another.
    policy: what to start from.
    mesh: where.
    data: the demonstrations.
    path: an existing directory that the run owns.
    evaluator: draws and judges answers every `config.eval.every` steps; None for no answers.
    preemption: whether SIGTERM arrived.
    seed: of random parameters and of dropout.
    optimizer_kept: in whose memory the optimiser's state is between updates.

  Returns:
    The trained parameters, in the learner's shardings.
  """
  save_description(policy, path)
  graph, _ = abstract_transformer(policy.model)
  loss = supervised.make_loss(
    graph,
    logprob_chunk=config.logprob_chunk,
    shards=batch_shards(mesh),
    dropout=build(DropoutRates, config.dropout, "dropout"),
    seed=stream_seed(seed, Stream.DROPOUT),
  )
  learner = BatchLearner(
    policy.model,
    loss,
    supervised.total_weight,
    build(OptimizerConfig, config.optimizer, "optimizer"),
    mesh,
    micro_batches=config.micro_batches,
    max_skipped_updates=config.max_skipped_updates,
    seed=stream_seed(seed, Stream.PARAMS),
    params=policy.params,
    optimizer_kept=optimizer_kept,
  )
  abstract = abstract_like(learner.state, learner.shardings).params
  sampler = dict(num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=local_mesh(mesh))
  hand_over = make_handover(abstract, **sampler)
  validation = None
  if data.validation is not None:
    validation = Validation(policy.model, data.validation, mesh, logprob_chunk=config.logprob_chunk)

  def evaluate() -> dict[str, Any]:
    metrics = {} if evaluator is None else evaluator(hand_over(learner.state.params), learner.version)[0]
    if validation is not None:
      metrics |= {f"eval/validation/{name}": value for name, value in validation(learner.state.params).items()}
    return metrics

  return offline.fit(
    config,
    learner,
    data.batches.batch,
    path,
    title="sft",
    evaluate=evaluate,
    preemption=preemption,
    evaluate_first=policy.params is not None,  # random parameters have nothing to say
    facts=data.facts,
  )


def prepare_warm_up(
  config: ml_collections.ConfigDict, policy: Policy, mesh: jax.sharding.Mesh
) -> DemonstrationData | None:
  """The demonstrations of another run's `warmup` section; None where it has no steps."""
  at_least(config, {"warmup.steps": 0, "warmup.epochs": 0})
  return prepare(config.warmup, policy, mesh, config.seed) if config.warmup.steps or config.warmup.epochs else None


def warm_up(
  config: ml_collections.ConfigDict,
  policy: Policy,
  mesh: jax.sharding.Mesh,
  data: DemonstrationData | None,
  workdir: pathlib.Path,
  evaluator: Evaluator | None,
  preemption: Preemption,
  optimizer_kept: Kept = Kept.DEVICE,
) -> Policy:
  """The policy after another run's warm-up, which is a run of its own in `warmup` of that run's directory."""
  if data is None:
    return policy
  path = workdir / "warmup"
  path.mkdir(exist_ok=True)
  options = dict(seed=config.seed, optimizer_kept=optimizer_kept)
  params = fit(config.warmup, policy, mesh, data, path, evaluator, preemption, **options)
  return dataclasses.replace(policy, params=params)
