"""Writes the reference of a module in reStructuredText, from its source.

The source is read and not imported, so that the site builds in seconds and needs none of the package's dependencies.
Signatures stand as they are written: `chex.Array` stays `chex.Array`. What has a docstring and no leading underscore is
shown, in the order of the source.
"""

import ast
import copy
import inspect
import pathlib
from collections.abc import Iterator

import docstrings
from sphinx.ext.napoleon import Config, GoogleDocstring

_CONFIG = Config(napoleon_use_ivar=True)  # a record's fields are described once


def module(path: pathlib.Path, name: str) -> str:
  """Returns the reference of the module `name`, whose source is at `path`."""
  tree = ast.parse(path.read_text("utf-8"), str(path))
  lines = [f".. py:module:: {name}", "", *_text(tree, "module"), "", *_members(tree, name, in_class=False)]
  return "\n".join(line.rstrip() for line in lines)


def signature(function: ast.FunctionDef | ast.AsyncFunctionDef, *, drop_first: bool) -> str:
  """Returns the arguments and the result as written; `drop_first` leaves out `self` or `cls`."""
  arguments = copy.deepcopy(function.args)
  if drop_first:
    (arguments.posonlyargs or arguments.args)[:1] = []
  result = "" if function.returns is None else f" -> {ast.unparse(function.returns)}"
  return f"({ast.unparse(arguments)}){result}"


def fields(node: ast.ClassDef) -> str:
  """Returns the arguments of a record's constructor: its own fields in order; "" if the class is no record."""
  decorators = [ast.unparse(each) for each in node.decorator_list]
  if not any(each.partition("(")[0].endswith("dataclass") for each in decorators):
    return ""
  found = []
  for each in node.body:
    if isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each.annotation):
      default = f" = {ast.unparse(each.value)}" if each.value is not None else ""
      found.append(f"{ast.unparse(each.target)}: {ast.unparse(each.annotation)}{default}")
  if not found:
    return ""
  by_name = any("kw_only=True" in each for each in decorators)
  return f"({', '.join(['*'] * by_name + found)})"


def _members(node: ast.AST, prefix: str, *, in_class: bool) -> Iterator[str]:
  for child in ast.iter_child_nodes(node):
    name = getattr(child, "name", "_")
    if name.startswith("_"):
      continue
    if isinstance(child, ast.ClassDef):
      yield from _class(child, f"{prefix}.{name}")
    elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(child):
      yield from _function(child, f"{prefix}.{name}", in_class=in_class)


def _class(node: ast.ClassDef, name: str) -> Iterator[str]:
  made = next((each for each in node.body if getattr(each, "name", "") == "__init__"), None)
  built = [] if made is None else [*_text(made, "method"), ""]
  lines = [*_text(node, "class"), "", *built, *_members(node, name, in_class=True)]
  if any(lines):
    arguments = fields(node) if made is None else signature(made, drop_first=True).partition(" -> ")[0]
    yield from _directive("class", f"{name}{arguments}", [], lines)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, *, in_class: bool) -> Iterator[str]:
  decorators = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
  text = _text(node, "function")
  if in_class and decorators & {"property", "cached_property"}:
    options = [] if node.returns is None else [f":type: {ast.unparse(node.returns)}"]
    yield from _directive("property", name, options, text)
    return
  options = [f":{each}:" for each in ("staticmethod", "classmethod") if each in decorators]
  if isinstance(node, ast.AsyncFunctionDef):
    options.append(":async:")
  arguments = signature(node, drop_first=in_class and "staticmethod" not in decorators)
  yield from _directive("method" if in_class else "function", f"{name}{arguments}", options, text)


def _directive(kind: str, title: str, options: list[str], lines: list[str]) -> Iterator[str]:
  yield f".. py:{kind}:: {title}"
  yield from (f"   {each}" for each in options)
  yield ""
  yield from (f"   {line}" if line else "" for line in lines)
  yield ""


def _text(node: ast.AST, kind: str) -> list[str]:
  """Returns the docstring of a node as reStructuredText."""
  text = ast.get_docstring(node, clean=False)
  if not text:
    return []
  lines = docstrings.to_rst(inspect.cleandoc(text).split("\n"))
  return str(GoogleDocstring(lines, _CONFIG, what=kind)).split("\n")
