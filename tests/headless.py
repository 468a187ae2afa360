"""Starts Debian's Chromium without a window, and says what pages are audited for."""

import contextlib
import pathlib

from playwright import sync_api

CHROMIUM = pathlib.Path("/usr/bin/chromium")
_FLAGS = (
  *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
  *("--disable-component-update", "--disable-sync"),
)
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
# Rules of axe for all of WCAG 2.2 AA and of good practice.
AXE = {
  "resultTypes": ["violations"],
  "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


@contextlib.contextmanager
def launched():
  """Starts a browser."""
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(_FLAGS))
    yield browser
    browser.close()
