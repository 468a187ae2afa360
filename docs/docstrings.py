"""Turns the docstrings of this package into reStructuredText, which is what Sphinx reads.

Docstrings here are plain text: a name or a formula stands in single backticks, an indented block is shown as it is, and
`Args:`, `Returns:`, `Raises:` and `Attributes:` begin Google's sections, which napoleon reads afterwards. Everything
that reStructuredText would take for markup (`*`, `|`, a trailing `_`) is escaped, so that nobody has to think of it
when writing a docstring.
"""

import ast
import functools
import inspect
import pathlib
import re
from collections.abc import Sequence

SECTIONS = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:")
_CODE = re.compile(r"`+([^`]+)`+")
_MARKUP = re.compile(r"([\\*|]|_(?!\w)|`)")
_ITEM = re.compile(r"(?:[-*•]|\d+\.) ")


def to_rst(lines: Sequence[str]) -> list[str]:
  """Converts the lines of a docstring, already without their common indentation."""
  text = "\n".join(lines).replace("\t", "  ")
  out, section, item, literal = [], False, False, False
  for block in re.split(r"\n[ ]*\n", text):
    rows = block.split("\n")
    indented = all(row.startswith(" ") for row in rows if row.strip())
    if not indented:
      section, item = rows[0] in SECTIONS, bool(_ITEM.match(rows[0]))
      literal = False
    if indented and not section and not item or rows[0].lstrip().startswith("| "):
      out += [] if literal else ["::", ""]
      out += [f"  {row}" for row in rows]
      literal = True
    elif section:
      out += _section(rows)
    else:
      out += _escape(_list_apart(rows))
    out.append("")
  return out


def _section(rows: Sequence[str]) -> list[str]:
  """Escapes a section; the text of `Returns:` becomes a field, as napoleon would take its first colon for a type's."""
  if rows[0] not in ("Returns:", "Yields:"):
    return _escape(rows)
  return _escape([f":returns: {rows[1].strip()}", *(f"  {row.strip()}" for row in rows[2:])])


def _list_apart(rows: Sequence[str]) -> list[str]:
  """Sets a list apart from the sentence before it by an empty line."""
  starts = [i for i, row in enumerate(rows) if i and row.startswith("- ") and not rows[0].startswith("- ")]
  return [*rows[: starts[0]], "", *rows[starts[0] :]] if starts else list(rows)


def _escape(rows: Sequence[str]) -> list[str]:
  """Escapes what is not code and doubles the backticks of what is."""
  text, out, end = "\n".join(rows), [], 0
  for found in _CODE.finditer(text):
    out.append(_MARKUP.sub(r"\\\1", text[end : found.start()]))
    before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
    glue = ["\\ " if each.isalnum() else "" for each in (before, after)]
    out.append(f"{glue[0]}``{found[1].strip()}``{glue[1]}")
    end = found.end()
  return "".join([*out, _MARKUP.sub(r"\\\1", text[end:])]).split("\n")


@functools.cache
def _signatures(path: str) -> dict[str, tuple[str, str]]:
  """Reads (arguments, result) of every function of a file, as they are written there, by qualified name."""
  found = {}

  def visit(node, prefix):
    for child in ast.iter_child_nodes(node):
      if isinstance(child, ast.ClassDef):
        visit(child, f"{prefix}{child.name}.")
      elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = child.args
        in_class = isinstance(node, ast.ClassDef)
        if in_class and not any(getattr(each, "id", "") == "staticmethod" for each in child.decorator_list):
          (arguments.posonlyargs or arguments.args)[:1] = []  # self or cls
        result = "" if child.returns is None else ast.unparse(child.returns)
        found[f"{prefix}{child.name}"] = f"({ast.unparse(arguments)})", result

  visit(ast.parse(pathlib.Path(path).read_text("utf-8")), "")
  return found


def signature_as_written(kind: str, thing: object) -> tuple[str, str | None] | None:
  """Returns the signature of a function, method or class as its source has it; None leaves it to autodoc.

  Autodoc evaluates annotations, so that `chex.Array` would become a list of six types.
  """
  if kind not in ("function", "method", "class"):
    return None
  thing = inspect.unwrap(thing)
  try:
    known = _signatures(inspect.getsourcefile(thing))
  except (TypeError, OSError, SyntaxError):
    return None
  name = getattr(thing, "__qualname__", "")
  found = known.get(f"{name}.__init__" if kind == "class" else name)
  return None if found is None else (found[0], None if kind == "class" else found[1] or None)
