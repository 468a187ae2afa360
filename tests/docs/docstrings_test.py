"""Tests that docstrings are plain text: no part of them is read as markup."""

import importlib.util
import pathlib

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
