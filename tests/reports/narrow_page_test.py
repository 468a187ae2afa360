"""Tests in a browser that a report fits the screen of a phone, 390 pixels wide."""

import json
import re
import shutil
import subprocess

import pytest

from tests.reports.report_test import render, write_run

WIDTH = 390
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The browser's own window may have a least width, so the page stands in a frame.
FRAME = """<body><iframe id="frame" width="{width}" height="800" style="border: 0"></iframe><script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const page = frame.contentDocument, cells = [...page.querySelectorAll(".headline th, .headline td")];
  document.body.textContent = "FOUND" + JSON.stringify({{
    page: page.documentElement.scrollWidth, cells: cells.map(cell => cell.getBoundingClientRect().right)
  }}) + "END";
}};
frame.srcdoc = {page};
</script></body>"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium")]


def measure(page, folder):
  """Returns the page's width with all that it overflows by, and the right edges of the headline's cells."""
  file = folder / "frame.html"
  file.write_text(FRAME.format(width=WIDTH, page=json.dumps(page).replace("</", "<\\/")))
  flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
  shown = subprocess.run([BROWSER, *flags, file.as_uri()], capture_output=True, text=True, timeout=100)
  return json.loads(re.search("FOUND({.*?})END", shown.stdout)[1])


def test_before_after_and_change_can_be_seen(tmp_path):
  page = render(write_run(tmp_path / "run", steps=4))
  found = measure(page, tmp_path)
  assert found["page"] <= WIDTH  # a scroll bar may take some of it
  assert len(found["cells"]) > 8 and max(found["cells"]) <= WIDTH
  # Without the rules for narrow screens the last column lies outside.
  wide = measure(page.replace("@media (max-width: 40rem)", "@media (max-width: 1px)"), tmp_path)
  assert max(wide["cells"]) > WIDTH
