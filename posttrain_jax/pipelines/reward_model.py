"""Reward models: a scalar head on a base or fine-tuned model, trained on comparisons of answers to one prompt.

Bradley-Terry on all pairs of a prompt's ranked answers, with margins by the strength of the preference (`margins`),
centering (`centering`), a filter on strengths (`preferences.strengths`), and three answers where people edited the
better one. At every evaluation all rewards are shifted so that demonstrations average 0 (InstructGPT, 2203.02155): the
Bradley-Terry loss does not see the shift (centering, which pins the same level more weakly, does), whoever compares
rewards with 0 does. A step is one update of `pipelines.offline`.

Deviation from Llama 3 (2407.21783), which puts a prompt's answers into one row: here each answer sees the prompt and
itself, not the others.
"""

import contextlib
import dataclasses
import pathlib
from typing import Any

import ml_collections

from posttrain_jax.assembly.comparisons import load_comparisons
from posttrain_jax.assembly.demonstrations import encode, read_demonstrations
from posttrain_jax.assembly.model import Policy, load_policy, save_description
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Margins
from posttrain_jax.evaluation.calibration import pair_confidence
from posttrain_jax.evaluation.reward_evaluation import RewardEvaluation
from posttrain_jax.learner import reward_model
from posttrain_jax.learner.batch_learner import BatchLearner, check_division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.models import heads
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.pipelines import offline, sft
from posttrain_jax.reports.reliability_figure import plot_reliability
from posttrain_jax.reports.report import write_report
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import build, convert
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Trains a reward model, or goes on with it.

  Args:
    config: see `configs/tiny_reward_model.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/,
      reliability.png and report.html.

  Raises:
    InputError: bad configuration or input, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  with contextlib.ExitStack() as stack:
    offline.check(config)
    offline.check_best(config, ["heldout"] if config.preferences.held_out else [])
    if config.shift_to_demonstrations and not config.eval.every:
      raise InputError("shift_to_demonstrations: rewards are shifted at evaluations, expected eval.every above 0")
    if config.centering < 0:
      raise InputError(f"centering: {config.centering}, expected 0 (none) or more")
    policy, mesh = load_policy(config.model, scalar_head=True), make_mesh(config.mesh)
    check_division(mesh, batch_size=config.batch_size, micro_batches=config.micro_batches)
    data = load_comparisons(config.preferences, policy.tokenizer)
    batches = ComparisonBatches(
      data.train,
      batch_size=config.batch_size,
      seed=stream_seed(config.seed, Stream.PREFERENCES),
      pad_id=policy.tokenizer.pad_id or 0,
      margins=convert(Margins, config.margins, "margins"),
    )
    offline.set_length(config, batches.num_rows)
    build(OptimizerConfig, config.optimizer, "optimizer")
    digests = dict(data.digests)
    demonstrations = []
    if config.shift_to_demonstrations:
      rows, digests["demonstrations"] = read_demonstrations(config.demonstrations)
      demonstrations = [example.tokens for example in encode(config.demonstrations, rows, policy.tokenizer)[0]]
    warmup = sft.prepare_warm_up(config, policy, mesh)
    digests |= {"warmup": warmup.digests["demonstrations"]} if warmup is not None else {}
    digests |= policy_digests(config.model.path, policy.tokenizer)

    directory = stack.enter_context(Workdir.open(workdir, config, digests))
    preemption = stack.enter_context(Preemption())
    policy = sft.warm_up(config, policy, mesh, warmup, directory.path, None, preemption)
    _fit(config, policy, mesh, batches, data, demonstrations, directory.path, preemption)


def _fit(config, policy, mesh, batches, data, demonstrations, path: pathlib.Path, preemption) -> None:
  model, params = dataclasses.replace(policy.model, scalar_head=True), None
  if policy.params is not None:
    model, params = heads.to_scalar_head(policy.model, policy.params, seed=stream_seed(config.seed, Stream.HEAD))
  save_description(Policy(model, policy.tokenizer), path)
  graph, _ = abstract_transformer(model)
  learner = BatchLearner(
    model,
    reward_model.make_loss(graph, centering=config.centering),
    reward_model.totals,
    build(OptimizerConfig, config.optimizer, "optimizer"),
    mesh,
    micro_batches=config.micro_batches,
    max_skipped_updates=config.max_skipped_updates,
    seed=stream_seed(config.seed, Stream.PARAMS),
    params=params,
  )
  evaluation = RewardEvaluation(
    model, data.held_out, demonstrations, mesh, batch_size=config.batch_size, pad_id=policy.tokenizer.pad_id or 0
  )

  def evaluate() -> dict[str, Any]:
    metrics, learner.state = evaluation(learner.state)
    return metrics

  offline.fit(
    config,
    learner,
    batches.batch,
    path,
    title="reward model",
    evaluate=evaluate,
    preemption=preemption,
    evaluate_first=True,
    facts=data.facts,
  )
  margins = evaluation.margins(learner.state.params)
  if margins is not None:
    title = "Reward model on held-out comparisons"
    plot_reliability(path / "reliability.png", *pair_confidence(margins), title=title)
  if config.logging.report:
    write_report(path)
