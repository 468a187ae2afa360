import json

import pytest
import rich.console

from posttrain_jax.runs import summary
from posttrain_jax.types import InputError


def evaluation(step, average):
  values = {"avg@8": average, "maj@8": average + 0.05, "greedy": average + 0.1, "pass@8": 0.9}
  metrics = {"step": step, "eval/heldout/problems": 240}
  for name, value in values.items():
    metrics |= {f"eval/heldout/{name}": value}
    metrics |= {f"eval/heldout/{name}_low": value - 0.02, f"eval/heldout/{name}_high": value + 0.02}
  return metrics


def write(directory, records):
  directory.mkdir(exist_ok=True)
  (directory / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def run(tmp_path):
  # The last step has no evaluation, and a step in between is better than the last that has one.
  write(tmp_path, [evaluation(0, 0.4), {"step": 1}, evaluation(2, 0.8), evaluation(4, 0.6), {"step": 5}])
  write(tmp_path / "warmup", [evaluation(100, 0.3), {"step": 150}, evaluation(200, 0.4)])
  return tmp_path


def test_summarize(run):
  found = summary.summarize(run)
  assert found.pop("warmup_avg_at_8") == [0.3, 0.4]
  assert found == pytest.approx(
    {
      "avg_at_8_before": 0.4,
      "avg_at_8_after": 0.6,
      "greedy_before": 0.5,
      "greedy_after": 0.7,
      "maj_at_8_before": 0.45,
      "maj_at_8_after": 0.65,
    }
  )
  assert list(found)[:2] == ["avg_at_8_before", "avg_at_8_after"]


def test_without_a_warm_up_or_a_greedy_answer(tmp_path):
  records = [{"step": step, "eval/heldout/avg@8": value} for step, value in ((0, None), (3, 0.5))]
  write(tmp_path, records)
  found = summary.summarize(tmp_path)
  assert found["warmup_avg_at_8"] == [] and found["greedy_after"] is None
  assert (found["avg_at_8_before"], found["avg_at_8_after"]) == (None, 0.5)
  summary.table(tmp_path)


@pytest.mark.parametrize("records", [[{"step": 0}], [evaluation(3, 0.5)]])
def test_no_evaluation_before_training(tmp_path, records):
  write(tmp_path, records)
  with pytest.raises(InputError, match=r"metrics\.jsonl: found no eval/heldout/avg@8 at step 0"):
    summary.summarize(tmp_path)


def test_table(run):
  console = rich.console.Console(width=120, record=True)
  console.print(summary.table(run))
  text = console.export_text()
  for expected in ("240 problems", "before (step 0)", "after (step 4)", "0.400 [0.380, 0.420]", "warm-up: 0.300 0.400"):
    assert expected in text


def test_metrics_table():
  console = rich.console.Console(width=120, record=True)
  console.print(
    summary.metrics_table({"avg@4": 0.5, "avg@4_low": 0.4, "avg@4_high": 0.6, "length": 7.5, "problems": 240})
  )
  rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in console.export_text().splitlines()[1:-1]]
  assert rows == [["avg@4", "0.500 [0.400, 0.600]"], ["length", "7.500"], ["problems", "240"]]
