"""Tests that a module's reference is made from its source, without an import."""

import importlib
import pathlib
import sys
import textwrap

import pytest

pytest.importorskip("sphinx")
DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"

SOURCE = '''
"""Describes things."""

import no_such_package


def plain(x: chex.Array, *, n: int = 2) -> chex.Array:
  """Doubles.

  Raises:
    InputError: if it is too long
      for one line.
  """


def without_docstring(): ...
def _hidden():
  """Hides."""


class Thing:
  """Holds a thing."""

  def __init__(self, size: chex.Numeric):
    """Sets it up."""

  def method(self, y) -> None:
    """Does it."""

  @property
  def long(self) -> bool:
    """Tells whether it is long."""

  @classmethod
  def open(cls, path: str) -> "Thing":
    """Opens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
  """Holds fields.

  Attributes:
    a: first.
  """

  a: int
  b: str = "b"
'''

EXPECTED = """
.. py:module:: some.written
Describes things.
.. py:function:: some.written.plain(x: chex.Array, *, n: int=2) -> chex.Array
Doubles.
:raises InputError: if it is too long
for one line.
.. py:class:: some.written.Thing(size: chex.Numeric)
Holds a thing.
Sets it up.
.. py:method:: some.written.Thing.method(y) -> None
Does it.
.. py:property:: some.written.Thing.long
:type: bool
Tells whether it is long.
.. py:method:: some.written.Thing.open(path: str) -> 'Thing'
:classmethod:
Opens.
.. py:class:: some.written.Record(*, a: int, b: str = 'b')
Holds fields.
:ivar a: first.
"""


@pytest.fixture(scope="module")
def reference():
  sys.path.insert(0, str(DOCS))
  try:
    return importlib.import_module("reference")
  finally:
    sys.path.remove(str(DOCS))


def test_what_is_public_and_has_a_docstring_stands_there_as_written(reference, tmp_path):
  (tmp_path / "written.py").write_text(textwrap.dedent(SOURCE))
  lines = reference.module(tmp_path / "written.py", "some.written").split("\n")
  assert [line.strip() for line in lines if line.strip()] == EXPECTED.strip().split("\n")


def test_each_line_stands_below_its_directive(reference, tmp_path):
  (tmp_path / "written.py").write_text(textwrap.dedent(SOURCE))
  lines = reference.module(tmp_path / "written.py", "some.written").split("\n")
  assert "      Does it." in lines  # a method's text stands in its class
  assert min(len(line) - len(line.lstrip()) for line in lines if "for one line" in line) > 3
