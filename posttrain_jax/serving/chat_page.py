"""Puts the chat page together: one HTML file with its style and scripts in it.

Its policy lets the browser run these scripts and no others, and refuses to make HTML of a text. So what a model says
stays text.
"""

import base64
import hashlib
import importlib.resources

# In the order in which they are put into one script.
_SCRIPTS = ("words.js", "server.js", "feedback.js", "chat.js", "memory.js")


def page() -> tuple[str, str]:
  """Returns the page and its Content-Security-Policy."""
  folder = importlib.resources.files("posttrain_jax.serving") / "page"
  style = (folder / "chat.css").read_text("utf-8")
  script = '"use strict";\n' + "\n".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
  html = (folder / "chat.html").read_text("utf-8").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
  return html, (
    f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; img-src data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
  )


def _digest(source: str) -> str:
  return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
