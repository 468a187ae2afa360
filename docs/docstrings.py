"""Turns the docstrings of this package into reStructuredText, which is what Sphinx reads.

Docstrings here are plain text: a name or a formula stands in single backticks, an indented block is shown as it is, and
`Args:`, `Returns:`, `Raises:` and `Attributes:` begin Google's sections, which napoleon reads afterwards. Everything
that reStructuredText would take for markup (`*`, `|`, a trailing `_`) is escaped, so authors need not think of it.
"""

import re
from collections.abc import Sequence

SECTIONS = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:")
_CODE = re.compile(r"`+([^`]+)`+")
_MARKUP = re.compile(r"([\\*|]|_(?!\w)|`)")
_ITEM = re.compile(r"(?:[-*•]|\d+\.) ")


def to_rst(lines: Sequence[str]) -> list[str]:
  """Converts the lines of a docstring, already without their common indentation."""
  out, section, item, literal = [], False, 0, False
  for block in re.split(r"\n[ ]*\n", "\n".join(lines).replace("\t", "  ")):
    rows = block.split("\n")
    indent = _indent(rows[0])
    if not indent:
      section, item, literal = rows[0] in SECTIONS, _item(rows[0]), False
    if literal or (not section and indent > item) or rows[0].startswith("| "):
      out += [*([] if literal else ["::", ""]), *(f"{' ' * (item + 2)}{row}" for row in rows)]
      literal = True
    elif section:
      out += _section(rows)
    else:
      out += _paragraph(rows)
    out.append("")
  return out


def _indent(row: str) -> int:
  return len(row) - len(row.lstrip())


def _item(row: str) -> int:
  """Returns the indentation of a list item's text; 0 if the row begins none."""
  found = _ITEM.match(row)
  return len(found[0]) if found else 0


def _section(rows: Sequence[str]) -> list[str]:
  """Escapes a section.

  The text of `Returns:` becomes a field here: napoleon would take what is before its first colon for a type.
  """
  if rows[0] in ("Returns:", "Yields:"):
    return _escape([f":returns: {rows[1].strip()}", *(f"  {row.strip()}" for row in rows[2:])])
  return _escape([row if _indent(row) <= 4 else f"    {row.strip()}" for row in rows])


def _paragraph(rows: Sequence[str]) -> list[str]:
  """Escapes text and lists.

  Rows that stand further in than the text before them are shown as they are.
  """
  out, text, shown, item = [], [], [], 0

  def flush():
    if text:
      out.extend([*_escape(text), ""])
    if shown:
      out.extend([f"{' ' * item}::", "", *(f"{' ' * (item + 2)}{row.strip()}" for row in shown), ""])
    text.clear()
    shown.clear()

  for row in rows:
    begins = _item(row)
    if begins and (not item or shown):
      flush()
    if begins:
      item = begins
    if not begins and _indent(row) > item:
      if not shown and text:
        out.extend([*_escape(text), ""])
        text.clear()
      shown.append(row)
      continue
    if shown:
      flush()
    text.append(row)
  flush()
  return out


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
