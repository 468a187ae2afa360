"""Chooses the sampled answers that the report shows: a few groups of three steps."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.runs import rollout_files
from posttrain_jax.types import FinishReason

# Number of groups shown of each step, by verdict: some that were trained on, and examples of dropped ones.
SHOWN = {"trained": 2, "all_right": 1, "all_wrong": 1, "invalid": 1}
# Methods that sample nothing in training have evaluated groups, or comparisons that a reward model scored. Their files
# are short; so many are shown of each evaluation set.
EVALUATED, SHOWN_OF_A_SET = ("evaluated", "scored"), 3
LONGEST_TEXT = 3000  # characters; of a longer text the beginning and the end are shown


def sampled_steps(rollouts: pathlib.Path, notices: list[str]) -> list[tuple[int, list[dict[str, Any]]]]:
  """Returns (step, groups) of the first, middle and last file, ready for the page.

  Args:
    rollouts: the directory of step_NNNNNN.jsonl files; it may be missing.
    notices: one line is added for each line that cannot be read.
  """
  files = rollout_files.find(rollouts, rollout_files.SAMPLES_SUFFIX)
  chosen = sorted({0, len(files) // 2, len(files) - 1}) if files else []
  result = []
  for step, file in (files[index] for index in chosen):
    groups = _chosen_groups(file, notices)
    if groups:
      result.append((step, groups))
  return result


def marks(steps: list[tuple[int, list[dict[str, Any]]]]) -> str:
  """Explains the marks at the answers that `sampled_steps` chose."""
  verdicts = {group["verdict"] for _, groups in steps for group in groups}
  if verdicts == {"scored"}:
    agrees = "✓ the reward agrees with every comparison of the answer, ✗ it contradicts one."
    return f"{agrees} The answer of the lowest rank is the best one."
  moved = "" if verdicts == {"evaluated"} else "▲ made more likely, ▼ made less likely by training; "
  return f"{moved}✓ right, ✗ wrong, ? no verdict."


def _chosen_groups(file: pathlib.Path, notices: list[str]) -> list[dict[str, Any]]:
  wanted: dict[tuple[str, str], int] = {(verdict, ""): count for verdict, count in SHOWN.items()}
  groups = []
  with open(file, encoding="utf-8", errors="replace") as lines:
    for number, line in enumerate(lines, 1):
      if not any(wanted.values()):  # a file may have gigabytes, so reading stops when every group is found
        break
      try:
        record = json.loads(line)
        verdict = record.get("verdict", "trained" if record.get("accepted") else "")
        kind = verdict, str(record.get("set", ""))
        if verdict in EVALUATED:
          wanted.setdefault(kind, SHOWN_OF_A_SET)
        if wanted.get(kind):
          groups.append(_group(record, verdict))
          wanted[kind] -= 1
      except (ValueError, TypeError, AttributeError):
        notices.append(f"rollouts/{file.name}, line {number} is no record of a group: it is left out.")
  order = [*SHOWN, *EVALUATED]
  return sorted(groups, key=lambda group: order.index(group["verdict"]))


def _group(record: Mapping[str, Any], verdict: str) -> dict[str, Any]:
  samples = [_sample(sample) for sample in record.get("samples") or ()]
  return {
    "verdict": verdict,
    "is_trained": verdict not in EVALUATED,
    "set": record.get("set", ""),
    "prompt": _clipped(record.get("prompt", "")),
    "prompt_index": record.get("prompt_index"),
    "reference": None if record.get("answer") is None else _clipped(record["answer"]),
    "right": sum(sample["right"] is True for sample in samples),
    "valid": sum(sample["right"] is not None for sample in samples),
    "components": list(dict.fromkeys(name for sample in samples for name in sample["components"])),
    "samples": samples,
  }


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
  reason = sample.get("finish_reason", "")
  if isinstance(reason, int) and reason in list(FinishReason):
    reason = FinishReason(reason).name
  accuracy = sample.get("accuracy")
  valid = sample.get("valid", True) and accuracy is not None
  return {
    "text": _clipped(sample.get("text", "")),
    "length": sample.get("length"),
    "finish_reason": str(reason).lower(),
    "right": float(accuracy) > 0.5 if valid else None,
    "reward": sample.get("reward") if valid else None,
    "components": dict(sample.get("components") or {}),
    "advantage": sample.get("advantage"),
    "extracted": _clipped(sample["extracted"] or "no answer") if "extracted" in sample else None,
  }


def _clipped(value: Any) -> str:
  text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
  left_out = len(text) - LONGEST_TEXT
  if left_out <= 0:
    return text
  half = LONGEST_TEXT // 2
  return f"{text[:half]}\n\n[… {left_out} characters left out …]\n\n{text[-half:]}"
