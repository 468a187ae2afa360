"""Loads a served model with the name of its version, and looks for newer ones."""

import dataclasses

from posttrain_jax.assembly.model import Policy, digests, is_run, open_policy
from posttrain_jax.data.prompts import file_digest
from posttrain_jax.learner import checkpoint_folder
from posttrain_jax.learner.manifest import manifest_path
from posttrain_jax.local_path import local_path

_DIGITS = 12  # of a digest in a version's name


@dataclasses.dataclass(frozen=True)
class LoadedVersion:
  """Holds a model as it was loaded.

  Attributes:
    policy: with its parameters.
    version: names them: the sha256's first digits, and of a run its checkpoint's step too.
    newest: the run's newest checkpoint at that time, which is not the loaded one if it is damaged; None if it is no
      run.
  """

  policy: Policy
  version: str
  newest: int | None


def newest_step(path: str) -> int | None:
  """Returns a run's newest finished checkpoint; None if there is none or no run."""
  if not is_run(path):
    return None
  return max(checkpoint_folder.finished_steps(local_path(path) / "checkpoints"), default=None)


def load_version(path: str) -> LoadedVersion:
  """Loads a model, of a run the newest undamaged checkpoint.

  Args:
    path: PATH_OR_NAME.

  Raises:
    InputError: if there is no such model, or it cannot be read.
  """
  while True:
    newest = newest_step(path)
    version = None if newest is None else _run_version(path)
    policy = open_policy(path)
    if newest is None:
      return LoadedVersion(policy, digests(path, policy.tokenizer)["model"][:_DIGITS], None)
    if version == _run_version(path):  # else a checkpoint came in between, or an old one was deleted
      return LoadedVersion(policy, version, newest)


def _run_version(path: str) -> str:
  folder = local_path(path) / "checkpoints"
  step, _ = checkpoint_folder.choose_step(folder)
  return f"step-{step}-{file_digest(manifest_path(folder, step))[:_DIGITS]}"
