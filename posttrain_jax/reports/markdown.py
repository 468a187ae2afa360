"""Writes tables in Markdown."""

from collections.abc import Sequence


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
  """Returns a table's lines; every row has as many cells as the header."""
  return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *body))
