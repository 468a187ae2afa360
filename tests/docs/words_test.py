"""Checks the part of CONTRIBUTING's rule for words that a program can check."""

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A verb in the third person ends in "s". So do these words.
NO_VERB = {"Across", "Always", "Does", "Its", "Less", "Plus", "This", "Thus", "Unless"}
# The rule says at most twelve words or so. A few first lines list things and need more.
MOST_WORDS = 16
# Helpers of tests often describe an example in their first line.
MOST_WORDS_ELSEWHERE = 20
PACKAGE = ["posttrain_jax", "experiments", "configs"]
ELSEWHERE = ["tests", "docs", "launch"]


def definitions(tree: ast.AST) -> Iterator[ast.AST]:
  """Yields a module and the classes and functions in it; expressions are not searched, which saves time."""
  if isinstance(tree, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
    yield tree
  for field in ("body", "orelse", "handlers", "finalbody", "cases"):
    for statement in getattr(tree, field, ()):
      yield from definitions(statement)


def first_lines(path: pathlib.Path) -> list[tuple[int, str]]:
  """Returns (line, first line of a docstring) of a module, its classes and its functions that are no tests."""
  found = []
  for node in definitions(ast.parse(path.read_text("utf-8"))):
    text = ast.get_docstring(node)
    if text and not getattr(node, "name", "").startswith("test_"):
      found.append((getattr(node, "lineno", 1), text.split("\n")[0]))
  return found


def complaints(path: pathlib.Path, most: int = MOST_WORDS) -> list[str]:
  """Returns a line for each docstring that breaks the rule."""
  found = []
  for line, text in first_lines(path):
    words = text.split()
    # A plural noun ends in "s", too. Most of them are followed by "of".
    if words[0] in NO_VERB or not re.match(r"[A-Z][a-z-]+s[,;.]?$", words[0]) or words[1:2] == ["of"]:
      found.append(f"{path}:{line}: begins with {words[0]}, expected a verb in the third person: {text}")
    if len(words) > most:
      found.append(f"{path}:{line}: has {len(words)} words: {text}")
  return found


def verbs_of_class(node: ast.ClassDef) -> tuple[str, ...]:
  """Returns the verbs for a record without methods or for an enum; none for other classes."""
  marks = " ".join(ast.unparse(mark) for mark in node.decorator_list + node.bases)
  if "Enum" in marks:
    return ("Names", "Lists")
  functions = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
  methods = any(name == "__call__" or not name.startswith("_") for name in functions)
  return ("Holds", "Describes") if re.search("dataclass|NamedTuple", marks) and not methods else ()


def unlike_their_kind(path: pathlib.Path) -> list[str]:
  """Returns a line for each record and enum that does not begin with the verb of its kind."""
  found = []
  for node in definitions(ast.parse(path.read_text("utf-8"))):
    verbs = verbs_of_class(node) if isinstance(node, ast.ClassDef) else ()
    text = ast.get_docstring(node) if verbs else None
    if text and text.split()[0] not in verbs:
      found.append(f"{path}:{node.lineno}: expected {' or '.join(verbs)}: {text.splitlines()[0]}")
  return found


@pytest.mark.parametrize("folder", PACKAGE + ELSEWHERE)
def test_first_lines_of_docstrings(folder):
  sources = sorted((ROOT / folder).rglob("*.py"))
  assert sources
  most = MOST_WORDS if folder in PACKAGE else MOST_WORDS_ELSEWHERE
  assert [line for path in sources for line in complaints(path, most)] == []


@pytest.mark.parametrize(
  "text",
  ["What a step costs.", "This is it.", "A group.", "Groups of two.", "(a, b).", "says it.", "Says " + "it " * 16],
)
def test_a_first_line_against_the_rule_is_found(text, tmp_path):
  path = tmp_path / "bad.py"
  path.write_text(f'"""{text}"""')
  assert len(complaints(path)) == 1


@pytest.mark.parametrize("folder", PACKAGE)
def test_records_hold_or_describe_and_enums_name_or_list(folder):
  assert [line for path in (ROOT / folder).rglob("*.py") for line in unlike_their_kind(path)] == []


@pytest.mark.parametrize(
  ("text", "count"),
  [
    ('@dataclasses.dataclass(frozen=True)\nclass A:\n  """Says a."""', 1),
    ('class A(NamedTuple):\n  """Lists a."""', 1),
    ('class A(enum.StrEnum):\n  """Holds a."""', 1),
    ('@dataclass\nclass A:\n  """Holds a."""', 0),
    ('@dataclass\nclass A:\n  """Makes a."""\n  def a(self): ...', 0),
  ],
)
def test_a_record_with_another_verb_is_found(text, count, tmp_path):
  path = tmp_path / "bad.py"
  path.write_text(text)
  assert len(unlike_their_kind(path)) == count


def test_only_tests_may_begin_otherwise(tmp_path):
  path = tmp_path / "some_test.py"
  path.write_text('def test_it():\n  """Two updates agree."""\n\ndef helper():\n  """Two updates."""\n')
  assert [line.split(":")[1] for line in complaints(path)] == ["4"]


def test_the_readme_is_short():
  assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 170
