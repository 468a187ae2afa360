"""Opens the chat page in a headless browser; needs playwright, and Debian's Chromium."""

import os

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("playwright", reason="needs pip install 'posttrain_jax[test]'")
pytest.importorskip("axe_playwright_python", reason="needs pip install 'posttrain_jax[test]'")

from axe_playwright_python import sync_playwright as axe

from posttrain_jax.data.prompts import read_jsonl
from tests import headless
from tests.headless import AXE, CHROMIUM, WIDE
from tests.headless import launched as launched

if not CHROMIUM.exists():
  pytest.skip(f"there is no {CHROMIUM}", allow_module_level=True)
# What the page looks like is written there if it is set.
PICTURES = os.environ.get("CHAT_PICTURES")


def opened(browser, url, size=WIDE, scheme="light", expected=(), ready=True):
  """Opens the chat page; if `ready`, waits until a model can be asked."""

  def wait(page):
    if ready:
      page.locator("#model option").first.wait_for(state="attached")

  return headless.opened(browser, url, wait, size, scheme, expected, seconds=10)


def echo(request):
  """Answers with a thought, and with what the request has."""
  yield "<think> the user says"
  yield " something </think> "
  yield f"{request['model']} at {request['temperature']} to {len(request['messages'])}: "
  yield request["messages"][-1]["content"]


def send(page, text):
  page.locator("#model option").first.wait_for(state="attached")  # before that, Enter sends nothing
  page.get_by_label("Message", exact=True).fill(text)
  page.keyboard.press("Enter")


def finished(page):
  page.get_by_text("The answer is there.").wait_for()


def rows(folder, name):
  return [row.columns for row in read_jsonl(folder / name)] if (folder / name).read_text() else []


def show(page, name):
  if PICTURES:
    page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def faults(page):
  """Returns what an audit of accessibility finds; nothing if all is well."""
  found = axe.Axe().run(page, options=AXE)
  return found.generate_report() if found.violations_count else ""
