"""Says what each step of a preparation dropped, as JSON and as a page to read."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax import atomic_files

_LONGEST = 160  # characters of a sample on the page
REPORT, PAGE = "report.json", "report.md"
_TITLES = {
  "unreadable": "cannot be read",
  "length": "too short or too long",
  "symbols": "signs rather than words",
  "language": "another language",
  "repetition": "repeats itself",
  "toxicity": "listed words",
  "contamination": "passages of evaluation sets",
  "exact": "the same text as an earlier document",
  "near": "nearly the same text as an earlier document",
}


def write_report(folder: pathlib.Path, report: Mapping[str, Any]) -> None:
  """Writes report.json and report.md.

  Args:
    folder: gets them.
    report: `read` and `kept` with documents and bytes; `steps`, a list of records with name, documents, bytes and
      samples, and `alone` where a step judges documents one by one; `lists`, counts of what was looked for.
  """
  atomic_files.write_text(folder / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
  atomic_files.write_text(folder / PAGE, "\n".join(page(report)) + "\n")


def page(report: Mapping[str, Any]) -> list[str]:
  """Returns the lines of the page, in markdown."""
  read, kept = report["read"], report["kept"]
  lines = [
    "# What was kept and what was dropped",
    "",
    f"{read['documents']:,} documents with {_size(read['bytes'])} were read. {kept['documents']:,} documents with "
    f"{_size(kept['bytes'])} are kept, {_share(kept['documents'], read['documents'])} of the documents and "
    f"{_share(kept['bytes'], read['bytes'])} of the text. A document counts for the first step that drops it. The last "
    "column has how many a step would drop if it stood alone.",
    "",
    "| step | drops documents with | documents | share | text | alone |",
    "|---|---|---|---|---|---|",
  ]
  for step in [*report["steps"], {"name": "**kept**", **kept}]:
    alone = f"{step['alone']:,}" if "alone" in step else ""
    share, title = _share(step["documents"], read["documents"]), _TITLES.get(step["name"], "")
    cells = (step["name"], title, f"{step['documents']:,}", share, _size(step["bytes"]), alone)
    lines.append(f"| {' | '.join(cells)} |")
  if report["lists"]:
    lines += ["", "Looked for: " + "; ".join(f"{name}: {_counts(found)}" for name, found in report["lists"].items())]
  for step in report["steps"]:
    lines += _samples(step["name"], step["samples"])
  return lines


def _samples(name: str, samples: Sequence[Mapping[str, Any]]) -> list[str]:
  if not samples:
    return []
  rows = [f"| {each['source']} | {_cell(each['reason'])} | {_cell(each['text'])} |" for each in samples]
  return ["", f"## Dropped by {name}", "", "| document | why | its beginning |", "|---|---|---|", *rows]


def _cell(text: str) -> str:
  """Returns a text as it can stand in a table."""
  shown = " ".join(text.split())
  shown = shown if len(shown) <= _LONGEST else shown[:_LONGEST] + " …"
  return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")


def _share(part: int, whole: int) -> str:
  return f"{part / whole:.1%}" if whole else "0.0%"


def _size(count: int) -> str:
  return f"{count / 1e6:,.1f} MB"


def _counts(found: Mapping[str, int]) -> str:
  return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.items())
