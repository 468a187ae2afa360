"""Keeps finished warm-ups by a digest of all that decides their bits.

The folder is ~/.cache/posttrain_jax/warmups. `POSTTRAIN_JAX_WARMUPS` names another one, and none if it is empty. What
is kept is the warm-up's whole folder: a run that takes it goes on from its last checkpoint, as if it had been stopped
right after its warm-up. Its file source.json says from where.

A folder appears under its digest by one rename, and is copied in the same way. So runs may share the cache, and a kill
leaves at most a temporary folder, which counts for nothing.
"""

import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

import posttrain_jax
from posttrain_jax import atomic_files

SOURCE_FILE = "source.json"
_VARIABLE = "POSTTRAIN_JAX_WARMUPS"
_KEPT = 20  # the newest stay
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers", "math-verify")


class WarmUpCache:
  """Takes one warm-up from the cache, or gives it to the cache once it is made.

  Attributes:
    digest: sha256 of what decides the warm-up's bits.
  """

  def __init__(self, inputs: Mapping[str, Any]):
    """Computes the digest; reads and writes nothing else.

    Args:
      inputs: what the warm-up is made from besides code, packages and machine: JSON values.
    """
    everything = json.dumps({"inputs": inputs, **_conditions()}, sort_keys=True)
    self.digest = hashlib.sha256(everything.encode()).hexdigest()
    self._folder = cache_folder()

  def take(self, path: pathlib.Path) -> str | None:
    """Copies the kept warm-up to a folder that does not exist yet.

    A new folder without a kept warm-up gets a source.json with the digest: `keep` will ask for it.

    Args:
      path: the warm-up's folder in the run's workdir. Where it exists, the run goes on with it.

    Returns:
      What to tell the user; None if nothing was taken.
    """
    for left in path.parent.glob(f".{path.name}_*"):
      shutil.rmtree(left)  # of a start that was killed while it copied; the run's workdir is locked
    if path.exists():
      return None
    kept = self._folder / self.digest if self._folder else None
    try:
      if kept is not None and (kept / SOURCE_FILE).exists():
        source = json.loads((kept / SOURCE_FILE).read_text("utf-8"))
        _copy(kept, path, {**source, "taken_from": str(kept)})
        os.utime(kept)  # the newest stay
        return f"warm-up: taken from {kept}, made in {source['made_in']} ({source['made_at']})"
    except (OSError, ValueError, KeyError) as error:  # also where another run removes it at this moment
      logging.warning("warm-up: %s could not be taken (%s), it is made again", kept, error)
    path.mkdir()
    self.mark(path)
    return None

  @property
  def is_kept(self) -> bool:
    """Tells whether the cache has the warm-up."""
    return self._folder is not None and (self._folder / self.digest / SOURCE_FILE).exists()

  def mark(self, path: pathlib.Path) -> None:
    """Writes source.json with the digest into a folder whose content was made from the inputs alone."""
    made_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    source = {"digest": self.digest, "made_in": str(path.absolute()), "made_at": made_at}
    atomic_files.write_text(path / SOURCE_FILE, json.dumps(source, indent=2) + "\n")

  def keep(self, path: pathlib.Path) -> None:
    """Copies a finished warm-up into the cache.

    Nothing is kept of a warm-up that was begun under another digest, such as with other code or on other devices.

    Args:
      path: the folder of the warm-up.
    """
    if self._folder is None or (self._folder / self.digest).exists():
      return
    try:
      source = json.loads((path / SOURCE_FILE).read_text("utf-8"))
      if source["digest"] != self.digest:
        return
      self._folder.mkdir(parents=True, exist_ok=True)
      _copy(path, self._folder / self.digest, source)
      self._remove_oldest()
    except FileNotFoundError:  # begun before there was a cache
      return
    except (OSError, ValueError, KeyError) as error:
      logging.warning("warm-up: could not be kept in %s (%s); the run goes on", self._folder, error)

  def _remove_oldest(self) -> None:
    kept = [folder for folder in self._folder.iterdir() if (folder / SOURCE_FILE).exists()]
    for folder in sorted(kept, key=lambda folder: folder.stat().st_mtime)[:-_KEPT]:
      aside = pathlib.Path(tempfile.mkdtemp(prefix=".old_", dir=self._folder))
      os.rename(folder, aside / folder.name)  # nobody finds half of it
      shutil.rmtree(aside)


def cache_folder() -> pathlib.Path | None:
  """Returns the folder of kept warm-ups; None if the environment turns it off."""
  named = os.environ.get(_VARIABLE)
  if named is not None:
    return pathlib.Path(named).expanduser() if named else None
  caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(caches).expanduser() / "posttrain_jax" / "warmups"


def _copy(source: pathlib.Path, target: pathlib.Path, origin: Mapping[str, str]) -> None:
  """Copies a folder, which appears under its new name when it is whole."""
  temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}_", dir=target.parent))
  try:
    shutil.copytree(source, temporary, dirs_exist_ok=True)
    temporary.chmod(0o755)  # mkdtemp's is for the owner only
    atomic_files.write_text(temporary / SOURCE_FILE, json.dumps(origin, indent=2) + "\n")
    try:
      os.rename(temporary, target)
    except OSError:
      if not target.exists():  # else another run was faster, and its copy is as good
        raise
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def _code() -> str:
  """Computes the sha256 of the package's sources."""
  digest, root = hashlib.sha256(), pathlib.Path(posttrain_jax.__file__).parent
  for file in sorted(root.rglob("*.py")):
    digest.update(f"{file.relative_to(root).as_posix()}\n".encode() + file.read_bytes())
  return digest.hexdigest()


def _conditions() -> dict[str, Any]:
  """Returns the conditions under which a run repeats bit for bit (docs/bit_exactness.md)."""
  versions = {}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = None
  devices = jax.devices()
  options = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_disable_most_optimizations",
  )
  return {
    "code": _code(),
    "versions": versions,
    "python": platform.python_version(),
    "machine": [platform.machine(), _cpu_model(), len(os.sched_getaffinity(0))],
    "devices": [devices[0].platform, devices[0].device_kind, len(devices), devices[0].client.platform_version],
    "flags": {name: os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")},
    "options": {name: str(jax.config.values.get(name)) for name in options},
  }


def _cpu_model() -> list[str]:
  """Returns the CPU's model and instruction sets; machines may share a cache."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines()
  except OSError:
    return [platform.processor()]
  found = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
  return [value.strip() for key, value in sorted(found.items()) if key.strip() in ("model name", "flags", "Features")]
