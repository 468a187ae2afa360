"""Follows docs/extending.md in a copy of the checkout.

Every block of the page is written to a file or run. A process takes seconds to import JAX, so what can share one does.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests import compiler_flags

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
# The line before a block says what is to be done with it.
BLOCK = re.compile(r"^([^\n]*)\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"(?:(Write|Append this to|Change) `([^`]+)`|(Check|Run) it):")


def steps() -> list[tuple[str, str | None, str, str]]:
  """Returns (verb, path, language, text) of each block, in order."""
  found = []
  for instruction, language, text in BLOCK.findall(PAGE):
    match = STEP.fullmatch(instruction)
    assert match, f"docs/extending.md: a block follows {instruction!r}, expected an instruction such as 'Check it:'"
    found.append((match[1] or match[3], match[2], language, text))
  return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
  """Makes a copy of the checkout with all files and changes of the page."""
  copy = tmp_path_factory.mktemp("extended")
  for folder in ("posttrain_jax", "configs", "experiments"):
    shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
  for file in ("pyproject.toml", "tests/conftest.py", "tests/compiler_flags.py"):
    (copy / file).parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / file, copy / file)
  for verb, path, language, text in steps():
    if verb == "Write":
      assert not (ROOT / path).exists(), f"{path} exists already"
      (copy / path).parent.mkdir(parents=True, exist_ok=True)
      (copy / path).write_text(text, "utf-8")
    elif verb == "Append this to":
      with open(copy / path, "a", encoding="utf-8") as file:
        file.write(text)
    elif verb == "Change":
      assert language == "diff"
      lines = text.splitlines()
      before = "\n".join(line[1:] for line in lines if line[0] in " -")
      after = "\n".join(line[1:] for line in lines if line[0] in " +")
      content = (copy / path).read_text("utf-8")
      assert content.count(before) == 1, f"{path} does not have once:\n{before}"
      (copy / path).write_text(content.replace(before, after), "utf-8")
  return copy


def run(command, checkout, **environment):
  # The copy's package comes first, and no other checkout is found.
  environment = {**compiler_flags.one_device(), "PYTHONPATH": str(checkout), **environment}
  done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
  return done.stdout


def test_the_page_has_an_example_of_each_kind():
  verbs = [verb for verb, *_ in steps()]
  assert verbs.count("Check") == 4 and verbs.count("Run") == 2 and verbs.count("Change") == 2
  assert PAGE.count("\n```") == 2 * len(verbs)  # no block without an instruction


def metrics_of(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


# In one process, which imports JAX once: the checks and the tests of the page.
SCRIPT = """
import runpy, pytest
checks, tests = {arguments}
for check in checks:
  runpy.run_path(check, run_name="__main__")
raise SystemExit(pytest.main(tests))
"""


def test_the_checks_and_the_tests_pass(checkout):
  checks = []
  for number, text in enumerate(text for verb, _, _, text in steps() if verb == "Check"):
    checks.append(f"check_{number}.py")
    (checkout / checks[-1]).write_text(text, "utf-8")
  tests = [path for verb, path, _, _ in steps() if verb == "Write" and path.startswith("tests/")]
  assert len(tests) == 3
  printed = run([sys.executable, "-c", SCRIPT.format(arguments=(checks, tests))], checkout)
  assert printed.startswith("[ 1.  0. nan]\n")
  assert "5 passed" in printed


def run_as_told(number, checkout):
  """Runs the commands of the page's `number`-th block of commands."""
  commands = [text for verb, _, _, text in steps() if verb == "Run"][number]
  interpreter = pathlib.Path(sys.executable).parent
  run(["bash", "-ec", commands], checkout, PATH=f"{interpreter}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.slow  # the default suite checks the config and the loss; the loop is that of all preference losses
def test_the_run_on_pairs_uses_the_loss(checkout):
  run_as_told(0, checkout)
  (record,) = [record for record in metrics_of(checkout / "runs" / "my_pairs") if record["step"] == 1]
  # At the first update Δ = 0, and max(0, 1 − 0)² = 1. DPO's loss would be log 2.
  assert record["loss"] == pytest.approx(1, abs=1e-5)
  config = json.loads((checkout / "runs" / "my_pairs" / "config.json").read_text())
  assert config["objective"]["loss"] == "truncated_quadratic"


def test_the_run_on_a_task_uses_what_was_added(checkout):
  run_as_told(1, checkout)
  records = metrics_of(checkout / "runs" / "my_sums")
  assert [record["step"] for record in records] == [0, 1, 2]
  assert "reward/brevity" in records[1] and "reward/correct" in records[1]
  config = json.loads((checkout / "runs" / "my_sums" / "config.json").read_text())
  assert (config["advantage"], config["objective"]["surrogate"]) == ("win_rate", "quadratic_surrogate")
  assert (checkout / "runs" / "my_sums" / "report.html").exists()


def test_what_is_added_keeps_the_style(checkout):
  written = [path for verb, path, _, _ in steps() if verb == "Write"]
  for arguments in (["check"], ["format", "--check"]):
    run([sys.executable, "-m", "ruff", *arguments, *written], checkout)
