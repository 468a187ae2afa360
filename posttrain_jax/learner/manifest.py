"""Writes and checks the sha256 manifest of each checkpoint.

Orbax does not check weight data: a flipped bit comes back as a wrong weight without an error. So each step `N/` has a
file `N.manifest.json` next to it, with the digest of every file of the step. It is written atomically, and only once
the step's files are final. So a step either is finished and can be checked, or has no manifest.

The manifest starts with the digest of all its other bytes, so that damage to the manifest is noticed like any other.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

import flax
import jax
import jaxlib

from posttrain_jax import atomic_files
from posttrain_jax.learner.digest import leaf_name
from posttrain_jax.types import InputError

_SUFFIX = ".manifest.json"


def manifest_path(directory: pathlib.Path, step: int | str) -> pathlib.Path:
  """Returns the path of a step's manifest, which may not exist."""
  return directory / f"{step}{_SUFFIX}"


def software_and_machine() -> dict[str, Any]:
  """Describes software and machine: a run repeats bit for bit only if these are equal."""
  devices = jax.devices()
  return {
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
    "flax": flax.__version__,
    "device_kind": devices[0].device_kind,
    "devices": len(devices),
    "processes": jax.process_count(),
    "visible_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "xla_flags": os.environ.get("XLA_FLAGS", ""),
  }


def changes_of_environment(directory: pathlib.Path, step: int) -> tuple[str, ...]:
  """Lists the parts of `software_and_machine` that changed since a step, one line each."""
  then, now = read(directory, step)["environment"], software_and_machine()
  return tuple(
    f"checkpoint was written with {name} {then.get(name)!r}, this is {now[name]!r}: bits may differ from here on"
    for name in now
    if then.get(name) != now[name]
  )


def _file_digests(step_directory: pathlib.Path, *, sync: bool = False) -> dict[str, str]:
  """Returns relative name → sha256 of a step's files; `sync` first flushes each to disk."""
  digests = {}
  for path in sorted(step_directory.rglob("*")):
    if path.is_file():
      with open(path, "rb") as file:
        if sync:
          os.fsync(file.fileno())
        digests[path.relative_to(step_directory).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
  return digests


def seal(directory: pathlib.Path, step: int, leaves: dict[str, str], *, best: bool) -> None:
  """Writes the manifest of a step whose files are final.

  Args:
    directory: the checkpoints of a run.
    step: the step, whose files are in `directory/step`.
    leaves: name of each leaf of the state → dtype and shape, to compare with a target before restoring.
    best: True if evaluation called this the best step so far.
  """
  content = {
    "step": step,
    "best": best,
    "files": _file_digests(directory / str(step), sync=True),
    "leaves": leaves,
    "environment": software_and_machine(),
  }
  body = json.dumps(content, indent=1).removeprefix("{").encode() + b"\n"
  atomic_files.write_bytes(manifest_path(directory, step), _with_digest(body))


def _with_digest(body: bytes) -> bytes:
  """Puts the digest of a JSON object's other members before them.

  `body` starts after the opening brace.
  """
  return b'{\n "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'",' + body


_DIGEST_LENGTH = len(_with_digest(b""))


def read(directory: pathlib.Path, step: int) -> dict[str, Any] | None:
  """Reads the manifest of a step.

  Returns:
    Its content; None if it is missing, damaged or another step's, or if it cannot be read.
  """
  try:
    text = manifest_path(directory, step).read_bytes()
    if text != _with_digest(text[_DIGEST_LENGTH:]):
      return None
    content = json.loads(text)
  except (OSError, ValueError):
    return None
  return content if content.get("step") == step else None


def damage(directory: pathlib.Path, step: int) -> str | None:
  """Describes the first damage to a step's files; None if they agree with its manifest.

  A file that cannot be read is damaged, too.
  """
  if not os.path.isfile(manifest_path(directory, step)):
    return "its manifest is missing"
  content = read(directory, step)
  if content is None:
    return "its manifest is not what was written, or unreadable"
  try:
    found = _file_digests(directory / str(step))
  except OSError as error:
    return f"{error.filename or 'a file'} cannot be read ({error.strerror or error})"
  for name, digest in content["files"].items():
    if name not in found:
      return f"{name} is missing"
    if found[name] != digest:
      return f"{name} is not what was written (sha256 differs)"
  added = sorted(found.keys() - content["files"].keys())
  return f"{added[0]} is not in the manifest" if added else None


def describe_leaves(state: Any) -> dict[str, str]:
  """Returns each leaf's name → dtype and shape, such as `float32[4, 8]`."""
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {leaf_name(path): f"{jax.numpy.dtype(leaf.dtype).name}{list(leaf.shape)}" for path, leaf in leaves}


def check_leaves(directory: pathlib.Path, step: int, abstract_state: Any, *, partial: bool) -> None:
  """Checks that a step has the leaves that are about to be restored.

  Orbax would cast to another dtype without an error.

  Args:
    directory: the checkpoints of a run.
    step: a step with a manifest.
    abstract_state: the target of the restore.
    partial: True if the step may have leaves that `abstract_state` does not have.

  Raises:
    InputError: if a leaf differs; the message names the first one.
  """
  saved, expected = read(directory, step)["leaves"], describe_leaves(abstract_state)
  for name in expected if partial else [*expected, *saved]:
    if saved.get(name) != expected.get(name):
      found = saved.get(name, "absent")
      raise InputError(f"checkpoint {directory / str(step)}: leaf {name} is {found}, expected {expected.get(name)}")
