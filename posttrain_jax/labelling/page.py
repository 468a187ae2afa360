"""Puts the page of raters together: one HTML file with its style and scripts in it.

The browser runs these scripts and no others: the page's policy names their digests. So text that comes from a model
cannot become a script, even if it were put into the page unescaped.
"""

import base64
import hashlib
import importlib.resources

import markdown_it

_STYLE = "page.css"
# In the order in which they are put into one script.
_SCRIPTS = ("texts.js", "pairs.js", "ranking.js", "writing.js", "saving.js", "session.js")


def page() -> tuple[str, str]:
  """Returns the page and its Content-Security-Policy."""
  folder = importlib.resources.files("posttrain_jax.labelling") / "page"
  style = (folder / _STYLE).read_text("utf-8")
  script = '"use strict";\n' + "\n".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
  html = (folder / "page.html").read_text("utf-8").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
  return html, (
    f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; img-src data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
  )


def instructions_html(markdown: str) -> str:
  """Renders instructions; HTML in them is shown as text, and links lead to web pages only."""
  return markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)


def _digest(source: str) -> str:
  return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
