"""Tests that the documentation builds as a site without a warning and shows what it should."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MISSING = [name for name in ("sphinx", "myst_parser", "furo") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: pip install -e .[docs]")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  path = tmp_path_factory.mktemp("site")
  command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", path / "doctrees", "docs", path / "html"]
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stderr[-5000:]
  return path / "html"


def test_every_page_is_there(site):
  pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
  pages = [page for page in pages if page.parts[0] != "_build"]
  assert len(pages) > 8
  assert [page for page in pages if not (site / page.with_suffix(".html")).exists()] == []


def test_the_reference_has_docstrings_and_signatures_as_written(site):
  page = (site / "api/reference/posttrain_jax.losses.html").read_text("utf-8")
  text = re.sub(r"<[^>]*>", "", page)
  assert "group_normalized(rewards: chex.Array, *" in text
  assert "A_i = (r_i − mean(r)) / (std(r) + epsilon)" in text  # no character of a formula is taken for markup


def test_a_link_to_a_source_leads_to_its_reference(site):
  page = (site / "design.html").read_text("utf-8")
  assert 'href="api/reference/posttrain_jax.pipelines.html#pipelines-grpo"' in page
  assert ".py.html" not in page
