"""Runs DPO and its variants: a policy learns from pairs of answers.

The loss is a function of `losses.preference` (`objective.loss`, `objective.options`). A likelihood term on the chosen
answer (`objective.nll_weight`, Llama 3) and DPOP's penalty are independent of each other. The reference is the policy
that training starts from. Its logprobs of all pairs are computed once, before training, and kept on disk
(`reference.cache`). With `preferences.count_end=False` the token that ends an answer counts in no logprob; the header
before it never does (Llama 3, 2407.21783, section 4.1.4). A step is one update of `pipelines.offline`.

KTO learns from pairs, or with `preferences.form="single"` from single answers with a label (`data.labelled_rows`).

A config with an `online` section samples its own pairs instead: `pipelines.online_dpo`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import ml_collections

from posttrain_jax.assembly.comparisons import PreferenceSettings, load_comparisons
from posttrain_jax.assembly.hand_over import hand_over_of_learner
from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.assembly.pair_learner import pair_learner
from posttrain_jax.assembly.rollout_engine import describe_ends
from posttrain_jax.data import preferences
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.mismatched import with_mismatched
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.evaluation.answer_records import sampled_records
from posttrain_jax.evaluation.evaluator import Evaluator, KLEvaluation
from posttrain_jax.evaluation.own_data import without_procedural
from posttrain_jax.evaluation.preference_evaluation import PreferenceEvaluation
from posttrain_jax.evaluation.reference_logprobs import kl_to_start, reference_logprobs
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.preference import PreferenceObjective
from posttrain_jax.learner.preference_batch import ReferencedBatch
from posttrain_jax.local_path import local_path
from posttrain_jax.parallel.memory import Memory
from posttrain_jax.parallel.processes import refuse_several
from posttrain_jax.pipelines import offline, online_dpo
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.offline import OfflineSettings
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.reports.end import end_run
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.sections import ReportSettings
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

_EVEN = (1, 4 / 3)  # of good answers to bad ones, weighted; TRL names these bounds after arXiv:2402.01306


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPOPreferences(PreferenceSettings):
  """Holds DPO's `preferences` section.

  Attributes:
    count_end: whether the token that ends an answer counts in its logprob.
  """

  count_end: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceCache:
  """Holds DPO's `reference` section.

  Attributes:
    cache: directory of cached reference logprobs; empty for reference/ in the workdir.
  """

  cache: str

  def __post_init__(self):
    """Raises InputError if the cache is no path of this machine."""
    local_path(self.cache, "reference.cache")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPOSettings(OfflineSettings):
  """Holds the config of a run; `configs/tiny_dpo.py` says what its fields mean."""

  seed: int
  tokens_per_micro_batch: int = at_least(0)
  model: ModelSettings
  mesh: Mapping[str, int]
  memory: Memory
  warmup: WarmUpSettings
  preferences: DPOPreferences
  objective: PreferenceObjective
  reference: ReferenceCache
  rewards: RewardSettings
  eval: KLEvaluation
  logging: ReportSettings

  def __post_init__(self):
    """Raises InputError if fields contradict each other; whether pairs are held out depends on the data."""
    if self.preferences.single and not self.objective.unpaired:
      raise InputError(
        f"objective.loss: {self.objective.loss} compares answers, expected kto for the single answers of "
        "preferences.form=single"
      )
    if self.eval.sets:
      offline.check_best(self.eval, [*self.eval.sets, "preferences"])


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Trains on pairs or single answers, or goes on with a run that was stopped.

  Args:
    config: see `configs/tiny_dpo.py`, which has every field, and `configs/tiny_online_dpo.py`.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/, reference/ and report.html.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: if `max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  if "online" in config:
    refuse_several("online DPO")
    online_dpo.train(config, workdir)
    return
  settings = parse(DPOSettings, config)
  with contextlib.ExitStack() as stack:
    run = MethodAssembly(settings, stack, warmup=settings.warmup, memory=settings.memory)
    run.warm_up.check_own_data(settings.preferences.path, "preferences.path", settings.model)
    data = load_comparisons(settings.preferences, run.policy.tokenizer)
    data.check_context(run.policy.model)
    run.digests |= data.digests
    otherwise = "preferences/reward/accuracy" if data.held_out else ""
    evaluation, told = without_procedural(settings.eval, settings.preferences.path, otherwise=otherwise)
    settings = dataclasses.replace(settings, eval=evaluation)
    run.tell(told)
    offline.check_best(settings.eval, [*settings.eval.sets, *(["preferences"] if data.held_out else [])])
    pairs, held_out = data.train, data.held_out
    if settings.preferences.single:
      run.tell(_uneven(data.facts, settings.objective.options))
    else:
      pairs, held_out = preferences.pairs(pairs), preferences.pairs(held_out)
    if settings.objective.unpaired:
      pairs = with_mismatched(pairs)
    batches = ComparisonBatches(
      pairs,
      batch_size=settings.batch_size,
      seed=stream_seed(settings.seed, Stream.PREFERENCES),
      pad_id=run.policy.tokenizer.pad_id or 0,
      count_end=settings.preferences.count_end,
    )
    division = settings.preferences.division(
      settings.tokens_per_micro_batch, comparisons=settings.batch_size, answers=batches.num_answers
    )
    settings = offline.with_length(settings, batches.num_rows)
    workers = run.workers(settings.rewards)
    evaluator = run.evaluator(settings.eval, settings.rewards, workers)
    run.check_references(workers)
    directory, preemption = run.open(workdir, settings)
    learner = pair_learner(
      run.policy,
      settings.objective,
      settings.optimizer,
      run.mesh,
      division,
      seed=settings.seed,
      max_skipped_updates=settings.max_skipped_updates,
      single=settings.preferences.single,
      optimizer_kept=settings.memory.optimizer,
    )
    cache = settings.reference.cache
    reference = reference_logprobs(
      run.policy.model,
      learner.state.params,
      batches.in_order(settings.batch_size),
      batches.num_rows,
      run.mesh,
      division,
      chunk=settings.objective.logprob_chunk,
      cache=local_path(cache) if cache else directory.path / "reference",
    )

    def batch(step: int) -> ReferencedBatch:
      comparisons = batches.batch(step)
      return ReferencedBatch(comparisons, reference[comparisons.index])

    offline.fit(
      settings,
      learner,
      batch,
      directory.path,
      title="dpo",
      evaluate=_evaluation(settings, run, learner, division, evaluator, held_out),
      preemption=preemption,
      evaluate_first=True,
      facts=data.facts,
      ends=describe_ends(run.policy.tokenizer),
    )
  end_run(directory.path, report=settings.logging.report)


def _uneven(facts: Mapping[str, float], options: Mapping[str, float]) -> str:
  """Returns a warning if one kind of answers counts more than the other, else nothing."""
  good, bad = facts["data/desirable"], facts["data/undesirable"]
  weights = {name: options.get(name, 1.0) for name in ("desirable_weight", "undesirable_weight")}
  of_good, of_bad = good * weights["desirable_weight"], bad * weights["undesirable_weight"]
  low, high = _EVEN
  if min(of_good, of_bad) <= 0 or low * of_bad <= of_good <= high * of_bad:
    return ""
  name, even = ("undesirable_weight", of_good / bad) if of_good > of_bad else ("desirable_weight", of_bad / good)
  return (
    f"preferences: {good} good and {bad} bad answers count as {of_good:.4g} to {of_bad:.4g} with their weights; "
    f"objective.options.{name}={even:.3g} would make them even"
  )


def _evaluation(
  settings: DPOSettings,
  run: MethodAssembly,
  learner: BatchLearner,
  division: Division,
  evaluator: Evaluator,
  held_out: Sequence[Comparison],
) -> Callable[[], offline.Evaluated]:
  """Makes what `offline.fit` evaluates with, while the learner still has the reference's parameters."""
  model, objective, preferred = run.policy.model, settings.objective, None
  hand_over = hand_over_of_learner(learner, model, run.mesh)
  if held_out:
    preferred = PreferenceEvaluation(
      model,
      held_out,
      objective,
      learner.state.params,
      run.mesh,
      division,
      pad_id=run.policy.tokenizer.pad_id or 0,
      count_end=settings.preferences.count_end,
    )
  kl = kl_to_start(settings.eval.kl, run.policy.model, learner.state.params, run.mesh, chunk=objective.logprob_chunk)

  def evaluate() -> offline.Evaluated:
    params = learner.state.params
    metrics, groups = evaluator(hand_over(params), learner.version)
    if preferred is not None:
      metrics |= {f"eval/preferences/{name}": value for name, value in preferred(params).items()}
    if kl is not None:
      metrics |= kl.of_sets(groups, "kl_to_reference")
    return metrics, sampled_records(groups, run.policy.tokenizer.decode)

  return evaluate
