"""Makes training shards of raw text, in three passes.

1. Blocks of documents are read and screened by rule, each on its own and by several workers.
2. Duplicates among all documents are found, by hashes of their texts and by MinHash signatures.
3. The documents that are left are written as shards.

Every pass holds a bounded part of the text, and a few bytes for each document. What is done is kept in DIR/scratch, so
a start after a kill goes on; the result has the same bytes, whatever the number of workers and of starts.
"""

import contextlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
import rich.console

from posttrain_jax import atomic_files
from posttrain_jax.data import prompts
from posttrain_jax.data.documents import SHARDS
from posttrain_jax.data.prepare import inputs, report, signatures, summary
from posttrain_jax.data.prepare.block_files import BlockFiles
from posttrain_jax.data.prepare.documents import Unreadable
from posttrain_jax.data.prepare.exact import KEPT, mark_exact
from posttrain_jax.data.prepare.inputs import InputFile
from posttrain_jax.data.prepare.near import SignatureFile, mark_near
from posttrain_jax.data.prepare.screening import UNREADABLE, Screening
from posttrain_jax.data.prepare.shards import ShardPlan, ShardWriter, plan_shards
from posttrain_jax.data.prepare.workers import in_order
from posttrain_jax.pipelines.prepare_settings import PrepareSettings
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError

_SECONDS_BETWEEN_LINES = 10.0


def prepare(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Prepares raw text, or goes on with a preparation that was stopped.

  Args:
    config: see `configs/prepare.py`.
    workdir: DIR; gets config.json, shards/, report.json, report.md, and at the end shards.json.

  Returns:
    What was read, dropped by each step, and kept.

  Raises:
    InputError: if config or input is not fit for use, before the work begins; if DIR holds another preparation; if a
      document cannot be read and `input.unreadable` is "error"; or if no document is left.
    Preempted: after SIGTERM.
  """
  settings = parse(PrepareSettings, config)
  files = inputs.find_files(settings.input.paths)
  digests, lists = _load_lists(settings)
  digests = {"text": inputs.check_files(files, settings.input), **digests}
  compared = {name: value for name, value in as_config(settings).items() if name != "workers"}
  with Workdir.open(workdir, compared, digests) as directory, Preemption() as preemption:
    folder, scratch = directory.path, directory.path / "scratch"
    if not (folder / SHARDS).exists():
      scratch.mkdir(exist_ok=True)
      for left in scratch.glob("writing-*"):  # by a start that was killed
        shutil.rmtree(left)
      work = _Preparation(settings, files, scratch, folder, preemption)
      work.screen()
      work.find_duplicates()
      found = work.describe(lists)
      report.write_report(folder, found)
      work.write_shards(found, digests["text"])
    shutil.rmtree(scratch, ignore_errors=True)
    return _told(json.loads((folder / report.REPORT).read_text("utf-8")), json.loads((folder / SHARDS).read_text()))


def _load_lists(settings: PrepareSettings) -> tuple[dict[str, str], dict[str, Any]]:
  """Reads what the rules look for.

  Returns:
    (digests of files and libraries, counts by rule).
  """
  digests, lists = {}, {}
  if settings.near.threshold:
    digests["near"] = signatures.load_library()
  if "toxicity" in settings.asked:
    lists["toxicity"] = {"phrases": settings.toxicity.load()}
    if settings.toxicity.path:
      digests["toxicity"] = prompts.file_digest(settings.toxicity.path)
  if "contamination" in settings.asked:
    lists["contamination"] = settings.contamination.load()
    for number, path in enumerate(settings.contamination.paths):
      digests[f"contamination_{number}"] = prompts.file_digest(path)
  return digests, lists


class _Preparation:
  """Runs the passes; each goes on where a killed start ended."""

  def __init__(
    self,
    settings: PrepareSettings,
    files: Sequence[InputFile],
    scratch: pathlib.Path,
    folder: pathlib.Path,
    preemption: Preemption,
  ):
    self._settings, self._files, self._scratch, self._folder = settings, files, scratch, folder
    self._names = [file.name for file in files]
    self._workers = settings.workers or os.cpu_count() or 1
    self._preemption, self._told = preemption, time.monotonic()
    self._blocks = BlockFiles(scratch / "blocks")
    self._exact, self._all = scratch / "earlier-exact", scratch / "earlier-all"

  def screen(self) -> None:
    """Reads and screens all blocks that are not there yet."""
    settings, blocks, numbers, count = self._settings, self._blocks, [], 0

    def missing():
      nonlocal count
      for count, block in enumerate(inputs.blocks(self._files, settings.input), 1):
        if not blocks.has(count - 1):
          numbers.append(count - 1)
          yield block

    if blocks.count is not None:
      return
    rules = {name: getattr(settings, name) for name in settings.asked}
    screening = Screening(settings.input, rules, settings.near, settings.seed, settings.samples)
    with contextlib.closing(in_order(screening, missing(), workers=self._workers)) as results:
      for screened in results:
        if settings.input.unreadable == Unreadable.ERROR and screened.counts[UNREADABLE]["documents"]:
          first = screened.samples[UNREADABLE][0]
          raise InputError(f"{self._files[first['file']].path}:{first['line']}: {first['reason']}")
        blocks.write(numbers.pop(0), screened)
        self._step(lambda: f"screened {count - len(numbers)} blocks of {inputs.BLOCK_BYTES >> 20} MiB")
    blocks.finish(count)

  def find_duplicates(self) -> None:
    """Finds the earlier document of each duplicate, unless that is done."""
    if self._all.exists():
      return
    count = sum(len(sizes) for (sizes,) in self._blocks.each("sizes"))
    earlier = np.full(count, KEPT, np.int64)
    if self._settings.exact:
      earlier = mark_exact(self._blocks, count, self._scratch)
    atomic_files.write_bytes(self._exact, earlier.tobytes())
    if self._settings.near.threshold:
      bands = self._settings.near.bands
      for done in mark_near(self._blocks, earlier, self._settings.near, self._scratch):
        self._step(lambda done=done: f"compared band {done} of {bands}")
    atomic_files.write_bytes(self._all, earlier.tobytes())

  def describe(self, lists: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what each step dropped."""
    settings, blocks = self._settings, self._blocks
    read, steps = summary.screened_steps(blocks, settings.asked, self._names, settings.samples)
    exact, earlier = np.fromfile(self._exact, np.int64), np.fromfile(self._all, np.int64)
    if settings.exact:
      steps.append(summary.duplicate_step(blocks, summary.EXACT, exact, self._names, settings.samples))
    if settings.near.threshold:
      near = np.where(exact == KEPT, earlier, KEPT)
      with SignatureFile(self._scratch / "signatures", blocks, settings.near.permutations) as found:
        steps.append(summary.duplicate_step(blocks, summary.NEAR, near, self._names, settings.samples, found))
    kept = summary.kept_of_blocks(blocks, earlier)
    documents, size = sum(each[1] for each in kept), sum(each[2] for each in kept)
    return {"read": read, "kept": {"documents": documents, "bytes": size}, "steps": steps, "lists": lists}

  def write_shards(self, found: Mapping[str, Any], text_digest: str) -> None:
    """Writes the shards that are not there yet, and then their list.

    Raises:
      InputError: if there is nothing to write.
    """
    if not found["kept"]["documents"]:
      dropped = ", ".join(f"{step['name']} {step['documents']}" for step in found["steps"] if step["documents"])
      raise InputError(
        f"{self._folder}: no document is left of {found['read']['documents']} ({dropped}); {report.PAGE} has samples"
      )
    shards, temporary = self._folder / "shards", self._scratch / f"writing-{os.getpid()}"
    shards.mkdir(exist_ok=True)
    temporary.mkdir()
    kept = summary.kept_of_blocks(self._blocks, np.fromfile(self._all, np.int64))
    plans = plan_shards(kept, self._settings.shard_megabytes * 10**6)
    missing = (plan for plan in plans if not (shards / plan.name).exists())
    writer = ShardWriter(self._scratch / "blocks", self._all, temporary, self._names)
    with contextlib.closing(in_order(writer, missing, workers=self._workers)) as written:
      for plan in written:
        os.replace(temporary / plan.name, shards / plan.name)
        self._step(lambda plan=plan: f"wrote {plan.name}")
    listed = [_listed(shards / plan.name, plan) for plan in plans]
    content = {**found["kept"], "text_sha256": text_digest, "shards": listed}
    atomic_files.write_text(self._folder / SHARDS, json.dumps(content, indent=2) + "\n")

  def _step(self, text: Callable[[], str]) -> None:
    """Says now and then what is done, and stops if that is asked for."""
    if time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
      self._told = time.monotonic()
      rich.console.Console(stderr=True).print(text(), highlight=False, markup=False, soft_wrap=True)
    if self._preemption.at_step_end():
      raise Preempted(text())


def _listed(path: pathlib.Path, plan: ShardPlan) -> dict[str, Any]:
  return {
    "file": f"{path.parent.name}/{path.name}",
    "documents": plan.documents,
    "bytes": path.stat().st_size,
    "sha256": prompts.file_digest(path),
  }


def _told(found: Mapping[str, Any], listed: Mapping[str, Any]) -> dict[str, Any]:
  return {
    "documents": found["read"]["documents"],
    **{f"dropped_{step['name']}": step["documents"] for step in found["steps"]},
    "kept": found["kept"]["documents"],
    "kept_bytes": found["kept"]["bytes"],
    "shards": len(listed["shards"]),
  }
