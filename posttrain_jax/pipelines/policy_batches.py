"""From a step's groups to what the learner trains on: padding, masks, and the logprobs and advantages that it asks for.

The objective's KL term, KL in the reward (`reference.kl_in_reward`) and the estimator of advantages each need the
learner's old logprobs, a reference's, a teacher's, or the reward of a greedy answer; whatever nobody needs is not
computed.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import same_tokenizer
from posttrain_jax.assembly.model import Policy, load_model
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.pipelines.advantages import Estimator, charge_kl
from posttrain_jax.rollouts.multi_process import shared
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import FinishReason, Group, InputError, Judge, Rollout


@dataclasses.dataclass
class PolicyBatches:
  """Makes the batch of a step.

  Attributes:
    learner: whose batch it is.
    estimator: turns rewards into advantages.
    sizes: `count`, `group_size`, `prompt_width` and `answer_width` of the padded rollout.
    overlong_filter: whether truncated answers leave the loss.
    kl_in_reward: β of the KL that is taken from rewards; 0 for none.
    reference: frozen parameters, in the learner's layout; None where nothing needs them.
    reference_kept: in whose memory they are between steps.
    teacher: logprobs of a batch under another model; None where nothing needs them.
    greedy: reward of the policy's greedy answer to each group's prompt; None where nothing needs it.
  """

  learner: PolicyLearner
  estimator: Estimator
  sizes: dict[str, int]
  overlong_filter: bool = False
  kl_in_reward: float = 0.0
  reference: nnx.State | None = None
  reference_kept: Kept = Kept.DEVICE
  teacher: Callable[[PolicyBatch], np.ndarray] | None = None
  greedy: Callable[[Sequence[Group]], np.ndarray] | None = None

  def refresh_reference(self) -> None:
    """Makes the learner's present parameters the reference."""
    self.reference = self.learner.scorer.freeze(self.learner.state.params, self.reference_kept)

  def __call__(self, groups: Sequence[Group]) -> PolicyBatch:
    """The batch of judged groups, at most `count` of them."""
    rollout = stack_groups(groups, **self.sizes)
    mask = training_mask(rollout, overlong_filter=self.overlong_filter)
    batch = policy_batch(rollout, np.zeros((*mask.shape[:2], 1), np.float32), mask)
    needed = self.estimator.inputs
    arrays = {name: getattr(rollout, name) for name in ("rewards", "accuracy", "lengths", "valid")} | {"mask": mask}

    logprobs = {}
    if "old_logprobs" in needed or self.kl_in_reward:
      logprobs["old_logprobs"] = self.learner.score(batch)
    if self.reference is not None:
      logprobs["reference_logprobs"] = self.learner.scorer(self.reference, batch)
    if self.kl_in_reward:
      charged = charge_kl(rollout.rewards, **logprobs, mask=mask, coefficient=self.kl_in_reward)
      arrays["rewards"] = np.where(rollout.valid, charged, 0)
    if "teacher_logprobs" in needed:
      arrays["teacher_logprobs"] = self.teacher(batch)
    if "greedy_rewards" in needed:
      # Rows without a group have no answer that a baseline could be taken from.
      arrays["greedy_rewards"] = np.zeros((len(mask),), np.float32)
      arrays["greedy_rewards"][: len(groups)] = self.greedy(groups)
    advantages = self.estimator(**arrays, **logprobs)
    return dataclasses.replace(batch, advantages=advantages, **logprobs)


def stack_groups(
  groups: Sequence[Group], *, count: int, group_size: int, prompt_width: int, answer_width: int
) -> Rollout:
  """Pads groups into one rollout.

  Args:
    groups: at most `count` judged groups.
    count: P; missing groups become rows without a token, which no loss counts.
    group_size: G.
    prompt_width: Tp.
    answer_width: Tc.
  """
  answers = (count, group_size, answer_width)
  rollout = Rollout(
    prompts=np.zeros((count, prompt_width), np.int32),
    prompt_lengths=np.ones((count,), np.int32),
    answers=np.zeros(answers, np.int32),
    lengths=np.zeros(answers[:2], np.int32),
    generated=np.zeros(answers, bool),
    finish_reasons=np.full(answers[:2], FinishReason.CANCELLED, np.int32),
    sampler_logprobs=np.zeros(answers, np.float32),
    drawn_logprobs=np.zeros(answers, np.float32),
    versions=np.zeros(answers, np.int32),
    accuracy=np.zeros(answers[:2], np.float32),
    rewards=np.zeros(answers[:2], np.float32),
    valid=np.zeros(answers[:2], bool),
  )
  for p, group in enumerate(groups):
    rollout.prompts[p, : len(group.prompt.tokens)] = group.prompt.tokens
    rollout.prompt_lengths[p] = len(group.prompt.tokens)
    for name in ("accuracy", "rewards", "valid"):
      getattr(rollout, name)[p] = getattr(group, name)
    for g, answer in enumerate(group.answers):
      n = len(answer.tokens)
      rollout.lengths[p, g], rollout.finish_reasons[p, g] = n, answer.finish_reason
      generated = np.ones((n,), bool) if answer.generated is None else answer.generated
      rollout.generated[p, g, :n] = generated
      for name in ("sampler_logprobs", "drawn_logprobs", "versions"):
        getattr(rollout, name)[p, g, :n] = np.where(generated, getattr(answer, name), 0)
      rollout.answers[p, g, :n] = answer.tokens
  return rollout


def training_mask(rollout: Rollout, *, overlong_filter: bool) -> np.ndarray:
  """Bool [P, G, Tc]: tokens that count.

  Those that the policy drew in answers that have a reward; with `overlong_filter` not those of truncated answers, which
  then leave numerator and denominator of the loss (DAPO, section 3.4).
  """
  counted = rollout.generated & rollout.valid[..., None]
  if overlong_filter:
    counted &= (rollout.finish_reasons != FinishReason.LENGTH)[..., None]
  return counted


def policy_batch(rollout: Rollout, advantages: np.ndarray, mask: np.ndarray) -> PolicyBatch:
  """The learner's view of a rollout, without old and reference logprobs.

  Args:
    rollout: the padded rollout.
    advantages: float32 [P, G, 1] or [P, G, Tc].
    mask: bool [P, G, Tc], tokens that count.
  """
  return PolicyBatch(
    prompts=rollout.prompts,
    prompt_lengths=rollout.prompt_lengths,
    answers=rollout.answers,
    mask=mask,
    advantages=advantages,
    sampler_logprobs=rollout.sampler_logprobs,
    correct=(rollout.accuracy > 0.5) & rollout.valid,
  )


def load_teacher(path: str, tokenizer: Tokenizer, estimator: Estimator) -> Policy | None:
  """The teacher that an estimator asks for, None where it asks for none.

  Args:
    path: PATH_OR_NAME of the teacher, of any size.
    tokenizer: the policy's; the teacher's has to be the same, as samples are not tokenised again.
    estimator: of advantages.

  Raises:
    InputError: a teacher is missing, or not wanted, or has another tokeniser.
  """
  wanted = "teacher_logprobs" in estimator.inputs
  if wanted != bool(path):
    expected = "the path of a model" if wanted else f"none, as advantage={estimator.name} takes no teacher"
    raise InputError(f"teacher.path: {path!r}, expected {expected}")
  if not wanted:
    return None
  model, params = load_model(path)
  same_tokenizer(path, tokenizer, "teacher.path")
  return Policy(model, tokenizer, params)


def teacher_logprobs(
  teacher: Policy, objective: Objective, mesh: Mesh, division: Division
) -> Callable[[PolicyBatch], np.ndarray]:
  """A function that scores batches under the teacher, at the policy's sampling temperature: float32 [P, G, Tc].

  Args:
    teacher: the teacher.
    objective: temperature and chunk size.
    mesh: where.
    division: of the policy's batches.
  """
  scorer = logprob_scorer(teacher.model, objective, mesh, division)
  params = scorer.freeze(teacher.params)
  return lambda batch: scorer(params, batch)


def greedy_rewards(engine: Engine, judge: Judge) -> Callable[[Sequence[Group]], np.ndarray]:
  """A function that gives, for each group's prompt, the reward of the policy's greedy answer.

  Args:
    engine: that of the rollouts; the greedy answers are drawn with the parameters that it has when they are asked for.
    judge: fills in rewards.

  Returns:
    Groups to float32 [number of groups], NaN where there is no verdict.
  """
  greedy = Engine(
    engine.model,
    SamplingConfig(temperature=0.0, stop_ids=engine.sampling.stop_ids),
    seed=engine.seed,
    slots=engine.slots,
    max_prompt_length=engine.max_prompt_length,
    max_new_tokens=engine.max_new_tokens,
    mesh=engine.mesh,
  )

  def rewards(groups: Sequence[Group]) -> np.ndarray:
    greedy.load(engine.params, engine.version)
    judged = shared([group.prompt for group in groups], lambda own: judge(greedy.generate(own, 1)))
    greedy.release()
    return np.array([group.rewards[0] if group.valid[0] else np.nan for group in judged], np.float32)

  return rewards
