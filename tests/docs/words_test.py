"""The part of CONTRIBUTING's rule for words that a program can check."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NO_VERB = {"What", "How", "Where", "Whether", "From", "Of", "Which", "Why", "When", "That", "As"}
# At most twelve words or so, says the rule; a few first lines list things and need more.
MOST_WORDS = 20


def first_lines(path: pathlib.Path) -> list[tuple[int, str]]:
  found = []
  for node in ast.walk(ast.parse(path.read_text("utf-8"))):
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
      text = ast.get_docstring(node)
      if text:
        found.append((getattr(node, "lineno", 1), text.split("\n")[0]))
  return found


def complaints(path: pathlib.Path) -> list[str]:
  found = []
  for line, text in first_lines(path):
    words = text.split()
    if not re.match(r"[A-Z`(]", text) or words[0] in NO_VERB:
      found.append(f"{path}:{line}: begins with {words[0]}: {text}")
    if len(words) > MOST_WORDS:
      found.append(f"{path}:{line}: has {len(words)} words: {text}")
  return found


@pytest.mark.parametrize("folder", ["posttrain_jax", "experiments", "configs"])
def test_first_lines_of_docstrings(folder):
  sources = sorted((ROOT / folder).rglob("*.py"))
  assert sources
  assert [line for path in sources for line in complaints(path)] == []


@pytest.mark.parametrize("text", ["What a step costs.", "How it works.", "says it.", "Says " + "it " * 20])
def test_a_first_line_against_the_rule_is_found(text, tmp_path):
  path = tmp_path / "bad.py"
  path.write_text(f'"""{text}"""')
  assert len(complaints(path)) == 1


def test_the_readme_is_short():
  assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 170
