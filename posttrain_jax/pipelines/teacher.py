"""A teacher whose logprobs of the policy's own samples are learned from: on-policy distillation (2306.13649)."""

from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh

from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.policy_gradient import PolicyBatch
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.model_rewards import same_tokenizer
from posttrain_jax.pipelines.policy import Policy, load_model
from posttrain_jax.types import InputError


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
  teacher: Policy, objective: Objective, mesh: Mesh, **division: int
) -> Callable[[PolicyBatch], np.ndarray]:
  """A function that scores batches under the teacher, at the policy's sampling temperature: float32 [P, G, Tc].

  Args:
    teacher: the teacher.
    objective: temperature and chunk size.
    mesh: where.
    **division: of the policy's batches, as `logprob_scorer` takes it.
  """
  scorer = logprob_scorer(teacher.model, objective, mesh, **division)
  params = scorer.freeze(teacher.params)
  return lambda batch: scorer(params, batch)
