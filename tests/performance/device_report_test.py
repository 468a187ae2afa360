import functools
import json
import subprocess

import jax
import pytest

from posttrain_jax.models.config import Remat
from posttrain_jax.performance import device_report
from posttrain_jax.performance.work import Work
from posttrain_jax.types import InputError

WHERE = {"device": "NVIDIA H100 80GB HBM3", "platform": "gpu", "jax": "0.10.2"}
PASSED = {"check": "attention", "error": 0.001, "bound": 0.02, "passed": True}
SHAPES = ["smollm2_135m:128", "smollm2_135m:512", "qwen2_5_0_5b:128", "qwen2_5_0_5b:512"]


def report(answers, seconds=1000.0):
  """Makes a report of parts that print these answers, or end with an error, in 10 seconds each."""
  time = [0.0]

  def run(command, **_):
    time[0] += 10
    answer = answers[command[-1]]
    failed = isinstance(answer, str)
    return subprocess.CompletedProcess(command, int(failed), "" if failed else json.dumps(answer), str(answer))

  return device_report.report(
    ["qwen2_5_0_5b", "smollm2_135m"], 512, seconds, lambda part: [part], print, run=run, now=lambda: time[0]
  )


def test_the_smallest_model_comes_first():
  assert device_report.shape_names(["qwen2_5_0_5b", "smollm2_135m"], 512) == SHAPES
  assert device_report.shape_names(["smol_4layer"], 2) == ["smol_4layer:1", "smol_4layer:2"]


def test_a_report():
  answers = {name: {**WHERE, "model": name} for name in SHAPES} | {"checks": {**WHERE, "checks": [PASSED]}}
  found = report(answers)
  assert {name: found[name] for name in WHERE} == WHERE
  assert found["passed"] and found["checks"] == [PASSED] and found["left_out"] == []
  assert [shape["part"] for shape in found["shapes"]] == SHAPES
  assert found["shapes"][0] == {"part": SHAPES[0], "model": SHAPES[0], "wall_seconds": 10}


def test_a_failed_check_and_a_failed_part_are_told():
  answers = {name: WHERE for name in SHAPES} | {
    "checks": {**WHERE, "checks": [PASSED, {**PASSED, "passed": False}]},
    SHAPES[2]: "RESOURCE_EXHAUSTED: out of memory",
  }
  found = report(answers)
  assert not found["passed"]
  assert found["shapes"][2]["error"] == "exit code 1: RESOURCE_EXHAUSTED: out of memory"
  answers["checks"] = "no GPU"
  found = report(answers)
  assert not found["passed"] and found["checks_error"] == "exit code 1: no GPU" and found["device"] == WHERE["device"]


def test_what_does_not_fit_into_the_time_is_left_out():
  answers = {name: WHERE for name in SHAPES} | {"checks": {**WHERE, "checks": [PASSED]}}
  found = report(answers, seconds=50.0)
  assert found["passed"] and [shape["part"] for shape in found["shapes"]] == SHAPES[:2]
  assert [line.partition(" ")[0] for line in found["left_out"]] == ["qwen2_5_0_5b:128:", "qwen2_5_0_5b:512:"]


@pytest.mark.parametrize(("mean", "expected"), [(4, 4), (16, 0)])
def test_the_work_of_a_part(monkeypatch, mean, expected):
  """Answers of the cap's length never end before it."""
  given = {}
  monkeypatch.setattr(jax, "device_count", lambda: 1)
  monkeypatch.setattr(device_report, "measured_step", lambda work, chip: given.update(work=work, chip=chip) or {"x": 1})
  make = functools.partial(Work, new_tokens=16, prompts=2)
  found = device_report.measure_part(f"smol_4layer:{mean}", make, "dots", 8)
  assert (found["x"], found["model"], found["mean_length"], found["device"]) == (1, "smol_4layer", mean, "cpu")
  assert found["peak_memory_gib"] > 0 and given["chip"] is None
  work = given["work"]
  assert (work.mean_length, work.new_tokens, work.prompts) == (expected, 16, 2)
  assert (work.model.compute_dtype, work.model.remat) == ("bfloat16", Remat.DOTS)


def test_a_part_that_is_not_known(monkeypatch):
  make = functools.partial(Work, new_tokens=16)
  with pytest.raises(InputError, match="found 8 devices, expected one"):
    device_report.measure_part("checks", make, "none", 8)
  monkeypatch.setattr(jax, "device_count", lambda: 1)
  with pytest.raises(InputError, match="--part=everything: expected checks or MODEL:MEAN_LENGTH"):
    device_report.measure_part("everything", make, "none", 8)
  with pytest.raises(InputError, match="model: 'gpt'"):
    device_report.measure_part("gpt:3", make, "none", 8)
  with pytest.raises(InputError, match="--check_length=6, expected a multiple of 4"):
    device_report.measure_part("checks", make, "none", 6)
