"""Builds the documentation as a site.

    python -m sphinx -W docs docs/_build/html

The pages are plain Markdown that reads well without Sphinx. What Sphinx needs besides is made here: the targets
of links to source files, and the API's reference, a page a folder, from docstrings (reference.py).
"""

import functools
import gc
import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

import reference  # noqa: E402
from sphinx.util import logging  # noqa: E402

# A build keeps nearly all that it makes, so looking for garbage as often as usual takes a seventh of its time.
gc.set_threshold(200_000, 50, 100)

project = "posttrain_jax"
author = copyright = "The posttrain_jax authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
smartquotes = False
html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False
highlight_language = "none"  # of fences that name no language
# Cosmetic: a snippet that its language's lexer cannot read has no colours, and the short name of a type that two
# modules define links to one of them.
suppress_warnings = ["misc.highlighting_failure", "ref.python"]

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4  # the anchors that GitHub gives to headings

toc_object_entries = False  # a function of the reference is found on its page and by the search

REFERENCE = "api/reference"
_LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s]+)\)")
_FENCE = re.compile(r"(^[ ]*```.*?^[ ]*```[ ]*$)", re.MULTILINE | re.DOTALL)
_logger = logging.getLogger(__name__)


@functools.cache
def public_modules() -> list[str]:
  """Lists the dotted names of all public modules, folders themselves left out."""
  found = []
  for path in sorted((ROOT / "posttrain_jax").rglob("*.py")):
    names = path.relative_to(ROOT).with_suffix("").parts
    if names[-1] != "__init__" and not any(name.startswith("_") for name in names):
      found.append(".".join(names))
  return found


@functools.cache
def folders() -> dict[str, list[str]]:
  """Groups the modules by the folder that they are in, the package's own first."""
  grouped = {}
  for module in public_modules():
    grouped.setdefault(module.rpartition(".")[0], []).append(module)
  return dict(sorted(grouped.items()))


def write_reference(app) -> None:
  """Writes the pages of the API's reference, one a folder.

  Pages that have not changed are left as they are, and those of folders that are gone are removed.
  """
  pages = {}
  for folder, modules in folders().items():
    parts = [f"# {folder}\n"]
    for module in modules:
      text = reference.module(ROOT.joinpath(*module.split(".")).with_suffix(".py"), module)
      parts.append(f"## {_heading(module)}\n\n````{{eval-rst}}\n{text}\n````\n")
    pages[folder] = "\n".join(parts)
  directory = DOCS / REFERENCE
  directory.mkdir(parents=True, exist_ok=True)
  for path in directory.glob("*.md"):
    if path.stem not in pages:
      path.unlink()
  for name, text in pages.items():
    path = directory / f"{name}.md"
    if not path.exists() or path.read_text("utf-8") != text:
      path.write_text(text, "utf-8")


def _heading(module: str) -> str:
  return module.removeprefix("posttrain_jax.")


def prepare_page(app, page: str, source: list[str]) -> None:
  """Gives links that leave docs/ a target."""
  if page.startswith(REFERENCE):
    return
  parts = _FENCE.split(source[0])
  parts[::2] = [_LINK.sub(lambda found: _link(page, found), part) for part in parts[::2]]
  source[0] = "".join(parts)


def _link(page: str, found: re.Match) -> str:
  """Returns a link with its target on the site.

  A module or folder of the package has its reference as target. Other files outside docs/ have no page: the text stays.
  """
  text, target = found[1], found[2].partition("#")[0]
  if not target or re.match(r"[a-z]+:", target):
    return found[0]
  path = (DOCS / page).parent.joinpath(target).resolve()
  if not path.exists():
    _logger.warning("link to %s: there is no such file", target, location=page)
  if path.is_relative_to(DOCS):
    return f"{text}({target.rstrip('/')}/index.md)" if (path / "index.md").exists() else found[0]
  name = ".".join(path.relative_to(ROOT).with_suffix("").parts) if path.is_relative_to(ROOT) else ""
  if name in folders():
    return f"{text}(/{REFERENCE}/{name}.md)"
  if name in public_modules():
    slug = re.sub(r"[^\w-]", "", _heading(name).lower())
    return f"{text}(/{REFERENCE}/{name.rpartition('.')[0]}.md#{slug})"
  return text[1:-1]


def setup(app) -> None:
  """Connects what is made here with the build."""
  app.connect("builder-inited", write_reference)
  app.connect("source-read", prepare_page)
