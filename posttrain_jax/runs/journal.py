"""Writes a run's journal: metrics.jsonl, rollouts/ (records and whole groups), TensorBoard events.

A step's entries are on disk before a checkpoint can include them (`offsets` ensures this). A restart cuts everything
back to the checkpoint. So a resumed run has the same journal as an unbroken one, except for the metrics under `time/`,
`memory/` and `restart/`. A checkpoint also has the sha256 of metrics.jsonl up to there. It is added up as lines are
written, and compared once, when a run goes on.
"""

import gzip
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
from absl import logging

from posttrain_jax import atomic_files
from posttrain_jax.local_path import local_path
from posttrain_jax.runs import rollout_files
from posttrain_jax.runs.events import Events
from posttrain_jax.types import InputError

METRICS_FILE = "metrics.jsonl"
NOT_REPRODUCIBLE = ("time/", "memory/", "restart/")


class Journal:
  """Appends to a run's journal. One process writes it, and steps only go up."""

  def __init__(self, path: str | os.PathLike, offsets: Mapping[str, Any] | None = None, *, tensorboard: bool = True):
    """Opens the journal and cuts off what the checkpoint does not include.

    Args:
      path: the run's directory.
      offsets: the value of `offsets()` in the checkpoint that the run goes on from; None empties the journal.
      tensorboard: whether to write event files too, under `tensorboard/`.

    Raises:
      InputError: if metrics.jsonl is shorter than the checkpoint says or not what was written, or if it cannot be
        opened.
    """
    path = pathlib.Path(path)
    self._rollouts = path / "rollouts"
    self._rollouts.mkdir(parents=True, exist_ok=True)
    offset, self._step = (offsets["metrics_bytes"], offsets["step"]) if offsets is not None else (0, -1)
    try:
      self._metrics = open(path / METRICS_FILE, "a+b")  # noqa: SIM115 (closed by `close`)
    except OSError as error:
      raise InputError(f"{path / METRICS_FILE}: {error.strerror}, expected a file to append to") from error
    try:
      self._sha256 = _digest_up_to(self._metrics, offset, offsets["metrics_sha256"] if offsets is not None else None)
    except InputError:
      self._metrics.close()
      raise
    self._metrics.truncate(offset)
    self._metrics.seek(0, os.SEEK_END)
    strays = rollout_files.cut_back(self._rollouts, self._step)
    if strays:
      logging.warning("%s: ignored %s: not a file of a step", self._rollouts, ", ".join(strays))
    # Steps after the checkpoint are written again; TensorBoard drops them from earlier event files.
    self._events = Events(path / "tensorboard", self._step + 1) if tensorboard else None

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends a step's metrics as one JSON object with `step` first.

    Args:
      step: larger than the last one written.
      metrics: values by name: number, bool, str, None, or an array without dimensions. Floats read back exactly; NaN
        and infinity become null.

    Raises:
      ValueError: if the step is not larger than the last one.
      TypeError: if a value has no JSON form.
    """
    if step <= self._step:
      raise ValueError(f"journal: step {step} after step {self._step}, expected steps to go up")
    record = {"step": step, **{name: _plain(value) for name, value in metrics.items()}}
    line = json.dumps(record, allow_nan=False).encode() + b"\n"
    self._metrics.write(line)
    self._metrics.flush()
    self._sha256.update(line)
    self._step = step
    if self._events is not None:
      for name, value in record.items():
        if name != "step" and isinstance(value, (bool, int, float)):
          self._events.add(step, name, value)

  def write_rollouts(self, step: int, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a step's sampled records, one JSON object a line, to rollouts/step_NNNNNN.jsonl.

    Args:
      step: the step that the records were sampled in: the one written last, or a later one.
      records: JSON objects; arrays become lists, NaN and infinity null.
    """
    lines = [json.dumps(_plain(record), allow_nan=False) + "\n" for record in records]
    atomic_files.write_text(
      self._rollouts / rollout_files.file_name(step, rollout_files.SAMPLES_SUFFIX), "".join(lines)
    )

  def write_groups(self, step: int, groups: bytes) -> None:
    """Writes the groups that a step trained on, for a replay.

    The file is rollouts/step_NNNNNN.groups.safetensors.gz. It is compressed a little, which halves it in half a
    microsecond a token; its checksum tells damage.

    Args:
      step: as for `write_rollouts`.
      groups: what `group_arrays.pack` returns.
    """
    content = gzip.compress(groups, compresslevel=1, mtime=0)  # without a time stamp the same groups give the same file
    atomic_files.write_bytes(self._rollouts / rollout_files.file_name(step, rollout_files.GROUPS_SUFFIX), content)

  def offsets(self) -> dict[str, Any]:
    """Returns the journal's position and digest, for a checkpoint.

    Everything written so far is on disk when this returns.
    """
    self._metrics.flush()
    os.fsync(self._metrics.fileno())
    if self._events is not None:
      self._events.flush()
    return {
      "metrics_bytes": self._metrics.tell(),
      "metrics_sha256": self._sha256.hexdigest(),
      "step": self._step,
    }

  def close(self) -> None:
    """Flushes and closes all files."""
    try:
      self.offsets()
    finally:
      self._metrics.close()
      if self._events is not None:
        self._events.close()

  def __enter__(self) -> "Journal":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


class NoJournal:
  """Writes nothing: stands in for a `Journal` that another process writes."""

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    del step, metrics

  def write_rollouts(self, step: int, records: Iterable[Mapping[str, Any]]) -> None:
    del step, records

  def write_groups(self, step: int, groups: bytes) -> None:
    del step, groups

  def offsets(self) -> dict[str, Any]:
    return {}

  def __enter__(self) -> "NoJournal":
    return self

  def __exit__(self, *exc_info) -> None:
    pass


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Reads the records of a run's metrics.jsonl, in order.

  A last line that a kill cut short is left out.

  Args:
    path: the run's workdir, or the file itself.

  Raises:
    InputError: if there is no metrics.jsonl, or a whole line is not JSON.
  """
  records = []
  given = pathlib.Path(path)
  path = given.parent if given.name == METRICS_FILE else path
  file = local_path(path) / METRICS_FILE
  if not file.exists():
    raise InputError(f"{path}: found no {METRICS_FILE}, expected the workdir of a run")
  for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
    try:
      records.append(json.loads(line))
    except ValueError as error:
      raise InputError(f"{file}:{number}: not JSON ({error})") from error
  return records


def reproducible(record: Mapping[str, Any]) -> dict[str, Any]:
  """Removes what measures time, memory or restarts from a record.

  Two runs of the same config agree on the rest.
  """
  return {name: value for name, value in record.items() if not name.startswith(NOT_REPRODUCIBLE)}


def _digest_up_to(file: BinaryIO, offset: int, expected: str | None) -> Any:
  """Returns the running sha256 of a journal's first bytes.

  Args:
    file: the open metrics.jsonl.
    offset: number of bytes that the checkpoint includes.
    expected: their digest in the checkpoint; None at a run's start.

  Raises:
    InputError: if there are fewer bytes, or others.
  """
  size = os.fstat(file.fileno()).st_size
  if size < offset:
    raise InputError(f"{file.name}: found {size} bytes, expected at least the checkpoint's {offset}")
  digest, left = hashlib.sha256(), offset
  file.seek(0)
  while left:
    chunk = file.read(min(left, 2**20))
    digest.update(chunk)
    left -= len(chunk)
  if expected is not None and digest.hexdigest() != expected:
    file.seek(0)
    raise InputError(
      f"{file.name}: {_first_damage(file.read(offset))}; the first {offset} bytes are not what was written (sha256 "
      "differs), expected those of the checkpoint: restore the file from a copy"
    )
  return digest


def _first_damage(content: bytes) -> str:
  """Says which line of a damaged journal cannot be right."""
  last = -1
  for number, line in enumerate(content.split(b"\n")[:-1], 1):
    try:
      step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
      return f"line {number} is not a record of a step"
    if type(step) is not int or step <= last:
      return f"line {number} has step {step} after step {last}"
    last = step
  return "a name or a number was changed"


def _plain(value: Any) -> Any:
  """Converts a value to JSON's types; NaN and infinity become None.

  A float32 becomes the float64 of the same value, which prints and reads back exactly.
  """
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item) for item in value]
  if value is None or isinstance(value, (bool, int, str)):
    return value
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if not hasattr(value, "__array__"):
    raise TypeError(
      f"journal: found {type(value).__name__}, expected a number, string, bool, None, list, dict or array"
    )
  return _plain(np.asarray(value).tolist())
