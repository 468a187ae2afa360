"""Tests that docstrings are plain text: no part of them is read as markup."""

import importlib.util
import pathlib
import sys
import textwrap

import pytest

PATH = pathlib.Path(__file__).resolve().parents[2] / "docs" / "docstrings.py"


@pytest.fixture(scope="module")
def docstrings():
  spec = importlib.util.spec_from_file_location("docstrings_of_docs", PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("Takes `x` and |y|, a * b.", r"Takes ``x`` and \|y\|, a \* b."),
    ("One of the `Engine`s.", r"One of the ``Engine``\ s."),
    ("Named `learner_`, not old_ or a_b.", r"Named ``learner_``, not old\_ or a_b."),
    ("Sums.\n\n  a *b*\n\n  c\n\nEnd.", "Sums.\n\n::\n\n    a *b*\n\n    c\n\nEnd."),
    ("1. One\n   of them:\n     table |x|\n2. Two", "1. One\n   of them:\n\n   ::\n\n     table |x|\n\n2. Two"),
    ("Args:\n  x: a | b.\n  **more: `c`.", "Args:\n  x: a \\| b.\n  \\*\\*more: ``c``."),
    ("Returns:\n  Arrays: one\n  for each.", ":returns: Arrays: one\n  for each."),
  ],
)
def test_to_rst(docstrings, text, expected):
  found = "\n".join(docstrings.to_rst(text.split("\n")))
  assert "\n".join(line.rstrip() for line in found.strip().split("\n")).replace("\n\n\n", "\n\n") == expected


def test_signatures_are_those_of_the_source(docstrings, tmp_path, monkeypatch):
  (tmp_path / "written.py").write_text(
    textwrap.dedent("""
      import chex
      def plain(x: chex.Array, *, n: int = 2) -> chex.Array: ...
      class Thing:
        def __init__(self, size: chex.Numeric): ...
        def method(self, y) -> None: ...
    """)
  )
  spec = importlib.util.spec_from_file_location("written", tmp_path / "written.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  monkeypatch.setitem(sys.modules, "written", module)
  written = docstrings.signature_as_written
  assert written("function", module.plain) == ("(x: chex.Array, *, n: int=2)", "chex.Array")
  assert written("class", module.Thing) == ("(size: chex.Numeric)", None)
  assert written("method", module.Thing.method) == ("(y)", "None")
  assert written("attribute", 3) is None
