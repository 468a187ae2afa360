import json

from posttrain_jax.data.prepare.report import page, write_report

REPORT = {
  "read": {"documents": 2000, "bytes": 4_000_000},
  "kept": {"documents": 500, "bytes": 1_000_000},
  "steps": [
    {
      "name": "length",
      "documents": 1000,
      "bytes": 2_000_000,
      "alone": 1100,
      "samples": [{"source": "a.jsonl:3", "reason": "1 words", "text": "a | b\n<script> `x`" + "y" * 500}],
    },
    {"name": "near", "documents": 500, "bytes": 1_000_000, "samples": []},
  ],
  "lists": {"contamination": {"texts": 1319, "too_short": 2}},
}


def test_the_page():
  lines = page(REPORT)
  assert "| length | too short or too long | 1,000 | 50.0% | 2.0 MB | 1,100 |" in lines
  assert "| near | nearly the same text as an earlier document | 500 | 25.0% | 1.0 MB |  |" in lines
  assert "| **kept** |  | 500 | 25.0% | 1.0 MB |  |" in lines
  assert "Looked for: contamination: 1,319 texts, 2 too short" in lines
  (row,) = [line for line in lines if line.startswith("| a.jsonl:3")]
  assert row.startswith("| a.jsonl:3 | 1 words | a \\| b &lt;script> \\`x\\`yyy") and len(row) < 220
  assert "## Dropped by near" not in lines


def test_a_table_has_as_many_cells_in_each_row():
  rows = [line for line in page(REPORT) if line.startswith("|") and "a.jsonl" not in line]
  assert {line.count("|") for line in rows[:5]} == {7}


def test_files(tmp_path):
  write_report(tmp_path, REPORT)
  assert json.loads((tmp_path / "report.json").read_text("utf-8")) == REPORT
  assert (tmp_path / "report.md").read_text("utf-8").splitlines() == page(REPORT)
