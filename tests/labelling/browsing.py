"""Opens the page of raters in a headless browser, looks at it, and audits it."""

import contextlib
import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright import sync_api

from posttrain_jax.labelling import server
from posttrain_jax.labelling.app import make_app
from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.keys import RaterKeys
from posttrain_jax.labelling.session import Session
from posttrain_jax.labelling.study import EVENTS
from posttrain_jax.labelling.votes import read_votes
from posttrain_jax.serving.background import in_background
from tests import headless
from tests.headless import AXE, CHROMIUM, NARROW, WIDE

needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
# What the pages look like is written there if it is set.
PICTURES = os.environ.get("LABELLING_PICTURES")
LOOKS = [(size, scheme) for size in (WIDE, NARROW) for scheme in ("light", "dark")]


@contextlib.contextmanager
def served(study, *, token=None, port=0):
  """Serves a study from a thread; yields its address and its keys."""
  with server._listening("127.0.0.1", port) as listener, EventLog(study.path / EVENTS) as log:
    port = listener.getsockname()[1]
    keys = RaterKeys(study.settings.raters, token)
    app = make_app(study, Session(study, log), keys, host="127.0.0.1", port=port)
    with in_background(app, listener) as url:
      yield f"{url}/", keys


def opened(browser, url, size=WIDE, scheme="light", expected=("net::ERR",)):
  """Opens the page of raters."""

  def ready(page):
    page.wait_for_selector("#work:not([hidden]), #login:not([hidden]), #done:not([hidden])")

  return headless.opened(browser, url, ready, size, scheme, expected, seconds=5)


def look(page, name):
  """Fails if the page is wider than the window or breaks a rule of accessibility; takes a picture."""
  page.evaluate("window.scrollTo(0, 0)")  # what is half under the top bar is no small target
  if PICTURES:
    page.screenshot(path=f"{PICTURES}/{name}.png")
  assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
  found = Axe().run(page, options=AXE).response["violations"]
  assert [(each["id"], [node["html"][:150] for node in each["nodes"]]) for each in found] == [], name


def wait_for(page, done, total):
  sync_api.expect(page.locator("#count")).to_have_text(f"{done} of {total}")


def labels(study):
  """Returns what was said about each item, by its prompt."""
  said = read_votes(study).by_item
  return {study.items[name].prompt[-1][1]: votes[0].label for name, votes in said.items()}


def side(page, beginning):
  """Returns the letter of the answer that begins so."""
  texts = page.locator("#fields .card .text").all_inner_texts()
  return "AB"[next(i for i, text in enumerate(texts) if text.startswith(beginning))]
