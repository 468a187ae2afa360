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


@contextlib.contextmanager
def opened(browser, url, ready, size, scheme, expected, *, seconds):
  """Opens a page; at its end nothing but what is expected may have gone wrong in it.

  Args:
    browser: from `launched`.
    url: of the page.
    ready: is given the page, and waits until it can be used.
    size: WIDE or NARROW.
    scheme: "light" or "dark".
    expected: parts of the complaints that may come.
    seconds: how long each wait may take.
  """
  narrow = size is NARROW
  context = browser.new_context(
    viewport=size, color_scheme=scheme, has_touch=narrow, is_mobile=narrow, reduced_motion="reduce"
  )
  context.set_default_timeout(1000 * seconds)
  page, said = context.new_page(), []
  page.on("pageerror", lambda error: said.append(str(error)))
  page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
  page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
  try:
    page.goto(url)
    ready(page)
    yield page
    assert [each for each in said if not any(part in each for part in expected)] == []
  finally:
    context.close()
