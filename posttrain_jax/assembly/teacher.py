"""Loads the teacher of on-policy distillation (2306.13649).

The policy learns from the teacher's logprobs of the policy's own samples.
"""

from collections.abc import Iterable

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.readers import load_reader
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError


def load_teacher(
  path: str, tokenizer: Tokenizer, *, wanted: bool, advantage: str, engines: Iterable[Engine] = ()
) -> tuple[Policy | None, dict[str, str]]:
  """Loads the teacher, if the method takes one.

  Args:
    path: PATH_OR_NAME of the teacher, of any size.
    tokenizer: the policy's. The teacher's must be the same, as samples are not tokenised again.
    wanted: whether the estimator of advantages takes a teacher's logprobs.
    advantage: the estimator's name, for messages.
    engines: draw the samples that it reads; its context must hold them.

  Returns:
    (the teacher, None if the method takes none; "teacher.path" to the digest of its weights).

  Raises:
    InputError: if a teacher is missing, is not wanted, is a reward model, has another tokeniser, or has a shorter
      context than the samples need.
  """
  if wanted != bool(path):
    expected = "the path of a model" if wanted else f"none, as advantage={advantage} takes no teacher"
    raise InputError(f"teacher.path: {path!r}, expected {expected}")
  if not wanted:
    return None, {}
  return load_reader(path, tokenizer, "teacher.path", scalar_head=False, engines=engines)
