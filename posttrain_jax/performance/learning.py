"""Times the learner: one optimiser update on P prompts with G answers each."""

import numpy as np

from posttrain_jax.learner.division import division_of
from posttrain_jax.learner.objective import Correction, Objective
from posttrain_jax.learner.optimizer import OptimizerConfig, Schedule
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.losses.aggregate import Aggregation
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance import roofline
from posttrain_jax.performance.timing import timed
from posttrain_jax.performance.work import Work


def learning(work: Work, profile: str | None = None) -> dict[str, object]:
  """Times DAPO's on-policy update: forward and backward over every token, then AdamW.

  Args:
    work: what is timed.
    profile: directory for a trace of the last update; None for no trace.

  Returns:
    Answer tokens trained a second, the update's answer tokens and micro-batches, the least seconds that `roofline`
    computes for its matrix products, and these as a share of the measured seconds.
  """
  learner = make_learner(work)
  batch = random_batch(work)
  found = timed(lambda run: learner.train(batch) and learner.state, work.runs, profile)
  answer_tokens = int(batch.mask.sum())
  tokens = answer_tokens + int((batch.prompt_lengths - 1).sum())  # the group shares one pass over its prompt
  ((_, packing),) = learner.scorer.split(batch)
  products = roofline.update_products(work.model, tokens, answer_tokens, work.logprob_chunk)
  least = roofline.limit_seconds(products, work.model.compute_dtype)
  return {
    "answer_tokens_per_second": round(answer_tokens / found.median, 1),
    "answer_tokens": answer_tokens,
    "micro_batches": packing.count,
    "row_tokens": packing.sizes.tokens,
    "limit_seconds": round(least, 6),
    "share_of_limit": round(least / found.median, 4),
    **found.record(),
  }


def make_learner(work: Work) -> PolicyLearner:
  """Makes a learner with random weights; batch and parameters are sharded over all devices."""
  objective = Objective(
    surrogate="clipped_surrogate",
    surrogate_options={},
    clip_low=0.2,
    clip_high=0.28,
    dual_clip=0.0,
    aggregation=Aggregation.TOKEN_MEAN,
    kl_coefficient=0.0,
    kl_estimator="k3",
    entropy_coefficient=0.0,
    nll_on_correct=0.0,
    correction=Correction(level="token", mode="truncate", low=0.0, high=2.0),
    temperature=work.temperature or 1.0,
    max_new_tokens=work.new_tokens,
    logprob_chunk=work.logprob_chunk,
  )
  optimizer = OptimizerConfig(
    learning_rate=1e-5,
    schedule=Schedule.CONSTANT,
    warmup_updates=0,
    decay_updates=0,
    end_fraction=0.1,
    b1=0.9,
    b2=0.999,
    epsilon=1e-8,
    weight_decay=0.0,
    clip_norm=1.0,
  )
  division = division_of(
    work.tokens_per_micro_batch,
    prompts=work.prompts,
    group=work.group,
    prompt=work.prompt_length,
    answer=work.new_tokens,
  )
  mesh = make_mesh({"fsdp": -1})
  return PolicyLearner(work.model, objective, optimizer, mesh, division, max_skipped_updates=1, seed=work.seed)


def random_batch(work: Work) -> PolicyBatch:
  """Makes answers of random tokens; half of a group's answers are right.

  Answers have full length, or geometric lengths up to the cap with `work.mean_length`. Then prompts have between half
  of their greatest length and all of it, too.
  """
  random = np.random.default_rng(work.seed)
  shape = (work.prompts, work.group, work.new_tokens)
  right = np.arange(work.group) % 2 == 0
  advantages = np.where(right, 1.0, -1.0).astype(np.float32)
  lengths = np.full(shape[:2], work.new_tokens)
  prompt_lengths = np.full((work.prompts,), work.prompt_length, np.int32)
  if work.mean_length:
    lengths = np.minimum(random.geometric(1 / work.mean_length, shape[:2]), work.new_tokens)
    prompt_lengths = random.integers(-(-work.prompt_length // 2), work.prompt_length + 1, work.prompts, np.int32)
  return PolicyBatch(
    prompts=random.integers(0, work.model.vocab_size, (work.prompts, work.prompt_length), np.int32),
    prompt_lengths=prompt_lengths,
    answers=random.integers(0, work.model.vocab_size, shape, np.int32),
    mask=np.arange(work.new_tokens) < lengths[..., None],
    advantages=np.broadcast_to(advantages[:, None], (work.prompts, work.group, 1)).copy(),
    sampler_logprobs=np.full(shape, -np.log(work.model.vocab_size), np.float32),
  )
