"""Adds up what each step of a preparation dropped."""

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.data.prepare.block_files import BlockFiles
from posttrain_jax.data.prepare.documents import RawDocument
from posttrain_jax.data.prepare.exact import KEPT
from posttrain_jax.data.prepare.near import SignatureFile
from posttrain_jax.data.prepare.screening import UNREADABLE, chosen, sample

EXACT, NEAR = "exact", "near"


def screened_steps(
  blocks: BlockFiles, rules: Sequence[str], names: Sequence[str], count: int
) -> tuple[dict[str, int], list[dict[str, Any]]]:
  """Adds up what the first pass dropped.

  Args:
    blocks: the screened blocks.
    rules: names of the rules, in their order.
    names: of the input's files.
    count: samples of each step.

  Returns:
    (what was read, a record for each step).
  """
  read, steps = {"documents": 0, "bytes": 0}, {name: _step(name) | {"alone": 0} for name in (UNREADABLE, *rules)}
  for counts, samples in blocks.each("counts", "samples"):
    for name in read:
      read[name] += counts["read"][name]
    for step in steps.values():
      for name in ("documents", "bytes", "alone"):
        step[name] += counts[step["name"]][name]
      step["samples"] = chosen([*step["samples"], *samples[step["name"]]], count)
  for step in steps.values():
    step["samples"] = [_with_source(each, names) for each in step["samples"]]
  return read, list(steps.values())


def duplicate_step(
  blocks: BlockFiles,
  name: str,
  earlier: np.ndarray,
  names: Sequence[str],
  count: int,
  signatures: SignatureFile | None = None,
) -> dict[str, Any]:
  """Adds up the duplicates that a step dropped.

  Args:
    blocks: the screened blocks.
    name: of the step.
    earlier: int64 [N], the earlier document of those that this step dropped; KEPT for all others.
    names: of the input's files.
    count: samples.
    signatures: of the documents, if the similarity is shown.
  """
  step, start, starts = _step(name), 0, []
  for texts, sizes, files, lines in blocks.each("texts", "sizes", "files", "lines"):
    starts.append(start)
    ends = np.cumsum(sizes)
    dropped = np.flatnonzero(earlier[start : start + len(sizes)] != KEPT)
    step["documents"] += len(dropped)
    step["bytes"] += int(sizes[dropped].sum())
    found = []
    for i in dropped.tolist():
      text = texts[ends[i] - sizes[i] : ends[i]][:4000].tobytes().decode("utf-8", "ignore")
      found.append(sample(RawDocument(int(files[i]), int(lines[i]), text, ""), "") | {"document": start + i})
    step["samples"] = chosen([*step["samples"], *found], count)
    start += len(sizes)
  for each in step["samples"]:
    document = each.pop("document")
    each["reason"] = _place(blocks, starts, int(earlier[document]), names)
    if signatures is not None:
      similarity = float(signatures.similar(document, earlier[document : document + 1])[0])
      each["reason"] = f"similarity {similarity:.2f} to {each['reason']}"
  step["samples"] = [_with_source(each, names) for each in step["samples"]]
  return step


def kept_of_blocks(blocks: BlockFiles, earlier: np.ndarray) -> list[tuple[int, int, int]]:
  """Returns for each block its documents, those that are kept, and their bytes."""
  found, start = [], 0
  for (sizes,) in blocks.each("sizes"):
    kept = earlier[start : start + len(sizes)] == KEPT
    found.append((len(sizes), int(kept.sum()), int(sizes[kept].sum())))
    start += len(sizes)
  return found


def _step(name: str) -> dict[str, Any]:
  return {"name": name, "documents": 0, "bytes": 0, "samples": []}


def _with_source(each: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
  return {"source": f"{names[each['file']]}:{each['line']}", "reason": each["reason"], "text": each["text"]}


def _place(blocks: BlockFiles, starts: Sequence[int], document: int, names: Sequence[str]) -> str:
  """Returns FILE:LINE of a document."""
  block = bisect.bisect_right(starts, document) - 1
  files, lines = blocks.read(block, "files", "lines")
  return f"{names[files[document - starts[block]]]}:{lines[document - starts[block]]}"
