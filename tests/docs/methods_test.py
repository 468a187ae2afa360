"""Tests that all methods' pages answer the same questions in one order."""

import pathlib
import re

import pytest

METHODS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "methods"
HEADINGS = [
  "Paper",
  "Equation",
  "What is ours",
  "Deviations",
  "Where it is",
  "Config and command",
  "Measured result",
]
PAGES = sorted(path.stem for path in METHODS.glob("*.md") if path.stem != "index")


@pytest.mark.parametrize("name", PAGES)
def test_headings(name):
  text = (METHODS / f"{name}.md").read_text("utf-8")
  assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
  assert "python -m experiments." in text.partition("## Config and command")[2]


@pytest.mark.parametrize("name", [name for name in PAGES if name != "replay"])  # its result is a test
def test_a_result_has_its_commit_and_date(name):
  measured = (METHODS / f"{name}.md").read_text("utf-8").partition("## Measured result")[2]
  assert re.search(r"`[0-9a-f]{7}` on 20\d\d-\d\d-\d\d", measured.replace("\n", " "))
  assert re.search(r"(before|after) the \[?change", measured.replace("\n", " "))


def test_the_index_lists_every_page():
  index = (METHODS / "index.md").read_text("utf-8")
  assert [name for name in PAGES if f"({name}.md" not in index or f"\n{name}\n" not in index] == []
