"""Tests that links and paths in the documents lead to files, headings and modules that exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted(
  page
  for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "launch").glob("*.md")]
  if not {"_build", "reference"} & set(page.relative_to(ROOT).parts)
)
FENCE = re.compile(r"^[ ]*```.*?^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
# A path in backticks that begins with a folder of the checkout; `...:test_x` names a test in it.
PATH = re.compile(
  r"`((?:posttrain_jax|tests|configs|experiments|launch|docs)/[\w./-]*\w\.(?:py|md|sh|svg|html))((?:::\w+)?)"
)


def text_of(page):
  return FENCE.sub("", page.read_text("utf-8"))


def anchors(page):
  """Returns the anchors that GitHub and MyST give to headings."""
  headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page):
  for target in LINK.findall(text_of(page)):
    if re.match(r"[a-z]+:", target):
      continue
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    assert path.exists(), f"{target}: no such file"
    assert not anchor or anchor in anchors(path), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths(page):
  if page.name == "extending.md":  # names files that its reader writes; it has a test of its own
    return
  for name, test in PATH.findall(text_of(page)):
    path = ROOT / name
    assert path.exists(), f"{name}: no such file"
    assert not test or f"def {test.removeprefix('::')}(" in path.read_text("utf-8"), f"{name}{test}: no such test"
