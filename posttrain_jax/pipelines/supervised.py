"""Fits a policy to demonstrations, for `pipelines.sft` and for the warm-up of other methods.

One step is one optimiser update of `pipelines.offline`. The loss is the negative log-likelihood of what the assistant
said, as a mean over tokens or with every example weighing the same (`loss_weighting`). `dropout` on the residual
branches may rise with depth (LIMA, 2305.11206).
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.demonstrations import DemonstrationData, DemonstrationSettings, load_demonstrations
from posttrain_jax.assembly.hand_over import hand_over_of_learner
from posttrain_jax.assembly.model import Policy, save_description
from posttrain_jax.assembly.rollout_engine import describe_ends
from posttrain_jax.data.supervised import Weighting
from posttrain_jax.evaluation.answer_records import sampled_records
from posttrain_jax.evaluation.validation import Validation
from posttrain_jax.learner import supervised
from posttrain_jax.learner.batch_learner import check_division
from posttrain_jax.learner.supervised import DropoutRates
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.offline import OfflineSettings
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.types import Group

# (the sampler's parameters, their version) to (metrics, the judged groups of each set).
Evaluate = Callable[[nnx.State, int], tuple[dict[str, Any], Mapping[str, list[Group]]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FittingSettings(OfflineSettings):
  """Holds what a config says of training without its data: `SupervisedSettings` has that too.

  Attributes:
    micro_batches: parts in which an update's gradient is computed.
    loss_weighting: what weighs the same in the loss.
    dropout: on the residual branches.
    logprob_chunk: most tokens whose logits exist at a time on a device.
  """

  micro_batches: int
  loss_weighting: Weighting
  dropout: DropoutRates
  logprob_chunk: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedSettings(FittingSettings):
  """Holds what a config says of training on demonstrations.

  Attributes:
    demonstrations: what is trained on.
  """

  demonstrations: DemonstrationSettings

  @property
  def has_steps(self) -> bool:
    """Returns whether there are steps or epochs to train."""
    return bool(self.steps or self.epochs)


def prepare(
  settings: SupervisedSettings, policy: Policy, mesh: Mesh, seed: int, *, own_share: float = 0.0
) -> tuple[SupervisedSettings, DemonstrationData]:
  """Reads the demonstrations and lays them out.

  Args:
    settings: the method's.
    policy: whose tokeniser is used.
    mesh: over which a batch divides.
    seed: the config's.
    own_share: share of a file's prompts that is held out where the config does not say what is.

  Returns:
    (the settings with their number of steps, the demonstrations).

  Raises:
    InputError: if the batch does not divide over the mesh, if a row is not fit for use, or if it is longer than the
      model's context.
  """
  check_division(mesh, batch_size=settings.batch_size, micro_batches=settings.micro_batches)
  data = load_demonstrations(
    settings.demonstrations,
    policy.tokenizer,
    batch_size=settings.batch_size,
    weighting=settings.loss_weighting,
    seed=stream_seed(seed, Stream.DEMONSTRATIONS),
    own_share=own_share,
  )
  data.check_context(policy.model)
  return offline.with_length(settings, data.batches.num_rows), data


def fit(
  settings: FittingSettings,
  policy: Policy,
  mesh: Mesh,
  data: DemonstrationData,
  path: pathlib.Path,
  evaluator: Evaluate | None,
  preemption: Preemption,
  *,
  seed: int,
  optimizer_kept: Kept = Kept.DEVICE,
  title: str = "sft",
) -> nnx.State:
  """Trains a policy on demonstrations.

  Args:
    settings: from `prepare`, so that the number of steps is known.
    policy: the model that training starts from.
    mesh: the devices that compute.
    data: the demonstrations.
    path: an existing directory that the run owns.
    evaluator: draws and judges answers every `eval.every` steps; None for no answers.
    preemption: whether SIGTERM arrived.
    seed: of random parameters and of dropout.
    optimizer_kept: in whose memory the optimiser's state is between updates.
    title: what the terminal calls the run.

  Returns:
    The trained parameters, in the learner's shardings.
  """
  save_description(policy, path)
  learner = supervised.make_learner(
    policy.model,
    settings.optimizer,
    mesh,
    logprob_chunk=settings.logprob_chunk,
    dropout=settings.dropout,
    dropout_seed=stream_seed(seed, Stream.DROPOUT),
    micro_batches=settings.micro_batches,
    max_skipped_updates=settings.max_skipped_updates,
    seed=stream_seed(seed, Stream.PARAMS),
    params=policy.params,
    optimizer_kept=optimizer_kept,
  )
  hand_over = hand_over_of_learner(learner, policy.model, mesh)
  validation = None
  if data.validation is not None:
    validation = Validation(policy.model, data.validation, mesh, logprob_chunk=settings.logprob_chunk)

  def evaluate() -> offline.Evaluated:
    metrics, groups = ({}, {}) if evaluator is None else evaluator(hand_over(learner.state.params), learner.version)
    if validation is not None:
      metrics |= {f"eval/validation/{name}": value for name, value in validation(learner.state.params).items()}
    return metrics, sampled_records(groups, policy.tokenizer.decode)

  return offline.fit(
    settings,
    learner,
    data.batches.batch,
    path,
    title=title,
    evaluate=evaluate,
    preemption=preemption,
    evaluate_first=policy.params is not None,  # random parameters have nothing to say
    facts=data.facts,
    ends=describe_ends(policy.tokenizer),
  )
