"""Direct preference optimisation and its kin: a policy learns from pairs of answers, without a reward model.

Which loss is a function of `losses.preference` (`objective.loss`, `objective.options`); a likelihood term on the chosen
answer (`objective.nll_weight`, Llama 3) and DPOP's penalty are independent of each other. The reference is the policy
as it came; its logprobs of all pairs are computed once, before training, and kept on disk (`reference.cache`). With
`preferences.count_end=False` the token that ends an answer counts in no logprob, as the header before it never does
(Llama 3, 2407.21783, section 4.1.4). A step is one update of `pipelines.offline`.

A config with an `online` section samples its own pairs instead: `pipelines.online_dpo`.
"""

import contextlib
import pathlib
from typing import Any

import ml_collections
from jax.sharding import Mesh

from posttrain_jax.assembly.comparisons import load_comparisons
from posttrain_jax.assembly.judges import check_answer_style, make_judge, make_workers
from posttrain_jax.assembly.model import Policy, load_policy, save_description
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.data import preferences
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.evaluation.evaluator import Evaluator
from posttrain_jax.learner import preference
from posttrain_jax.learner.batch_learner import BatchLearner, check_division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.preference import PreferenceObjective, ReferencedBatch
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.processes import is_main, local_mesh, refuse_several
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.pipelines import offline, online_dpo, sft
from posttrain_jax.pipelines.preference_evaluation import PreferenceEvaluation
from posttrain_jax.pipelines.reference_logprobs import KLToReference, frozen_copy, reference_logprobs
from posttrain_jax.reports.report import write_report
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import build, memory
from posttrain_jax.runs.workdir import Workdir


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Trains, or goes on with it.

  Args:
    config: see `configs/tiny_dpo.py`, which has every field, and `configs/tiny_online_dpo.py`.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/, reference/ and report.html.

  Raises:
    InputError: bad configuration or input, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  if "online" in config:
    refuse_several("online DPO")
    online_dpo.train(config, workdir)
    return
  with contextlib.ExitStack() as stack:
    offline.check(config)
    objective = build(PreferenceObjective, config.objective, "objective")
    policy, mesh = load_policy(config.model), make_mesh(config.mesh)
    kept = memory(config, mesh).optimizer
    check_division(mesh, batch_size=config.batch_size, micro_batches=config.micro_batches)
    data = load_comparisons(config.preferences, policy.tokenizer)
    offline.check_best(config, [*config.eval.sets, *(["preferences"] if data.held_out else [])])
    pairs, held_out = preferences.pairs(data.train), preferences.pairs(data.held_out)
    if objective.unpaired:
      pairs = preferences.with_mismatched(pairs)
    layout = dict(pad_id=policy.tokenizer.pad_id or 0, count_end=config.preferences.count_end)
    batches = ComparisonBatches(
      pairs, batch_size=config.batch_size, seed=stream_seed(config.seed, Stream.PREFERENCES), **layout
    )
    offline.set_length(config, batches.num_rows)
    build(OptimizerConfig, config.optimizer, "optimizer")
    workers = stack.enter_context(make_workers(config.rewards))
    judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
    check_answer_style(config)
    evaluator = Evaluator(config.eval, policy, judge, seed=config.seed, mesh=mesh)
    digests = {**data.digests, **evaluator.digests, **policy_digests(config.model.path, policy.tokenizer)}
    warmup = sft.prepare_warm_up(config, policy, mesh)
    digests |= {"warmup": warmup.digests["demonstrations"]} if warmup is not None else {}

    directory = stack.enter_context(Workdir.open(workdir, config, digests))
    preemption = stack.enter_context(Preemption())
    policy = sft.warm_up(config, policy, mesh, warmup, directory.path, evaluator, preemption, kept)
    save_description(policy, directory.path)
    learner = make_learner(config, policy, objective, mesh, kept)
    reference = reference_logprobs(
      policy.model,
      learner.state.params,
      batches.in_order(config.batch_size),
      batches.num_rows,
      mesh,
      chunk=objective.logprob_chunk,
      cache=pathlib.Path(config.reference.cache) if config.reference.cache else directory.path / "reference",
    )

    def batch(step: int) -> ReferencedBatch:
      comparisons = batches.batch(step)
      return ReferencedBatch(comparisons, reference[comparisons.index])

    evaluate = _evaluation(config, policy, objective, learner, evaluator, held_out, mesh, layout)
    offline.fit(
      config,
      learner,
      batch,
      directory.path,
      title="dpo",
      evaluate=evaluate,
      preemption=preemption,
      evaluate_first=True,
      facts=data.facts,
    )
  if config.logging.report and is_main():
    write_report(directory.path)


def make_learner(
  config: ml_collections.ConfigDict,
  policy: Policy,
  objective: PreferenceObjective,
  mesh: Mesh,
  optimizer_kept: Kept = Kept.DEVICE,
  *,
  abstract: bool = False,
) -> BatchLearner:
  """The learner of pairs that are given; `optimizer_kept` and `abstract` as in `BatchLearner`."""
  graph, _ = abstract_transformer(policy.model)
  return BatchLearner(
    policy.model,
    preference.make_loss(graph, objective, shards=batch_shards(mesh)),
    preference.total_pairs,
    build(OptimizerConfig, config.optimizer, "optimizer"),
    mesh,
    micro_batches=config.micro_batches,
    max_skipped_updates=config.max_skipped_updates,
    seed=stream_seed(config.seed, Stream.PARAMS),
    params=policy.params,
    abstract=abstract,
    optimizer_kept=optimizer_kept,
  )


def _evaluation(config, policy, objective, learner, evaluator, held_out, mesh, layout):
  """What `offline.fit` evaluates with; made while the learner still has the reference's parameters."""
  abstract = abstract_like(learner.state, learner.shardings).params
  sampler = dict(num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=local_mesh(mesh))
  hand_over = make_handover(abstract, **sampler)
  preferred = kl = None
  if held_out:
    options = dict(batch_size=config.batch_size, **layout)
    preferred = PreferenceEvaluation(policy.model, held_out, objective, learner.state.params, mesh, **options)
  if config.eval.kl:
    reference = frozen_copy(learner.state.params)
    kl = KLToReference(policy.model, reference, mesh, chunk=objective.logprob_chunk)

  def evaluate() -> dict[str, Any]:
    params = learner.state.params
    metrics, groups = evaluator(hand_over(params), learner.version)
    if preferred is not None:
      metrics |= {f"eval/preferences/{name}": value for name, value in preferred(params).items()}
    if kl is not None:
      metrics |= kl.of_sets(groups, "kl_to_reference")
    return metrics

  return evaluate
