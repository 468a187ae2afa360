"""Rates whole studies in a headless browser: by mouse and by keyboard, wide and narrow, light and dark."""

import contextlib
import json
import os
import pathlib
import threading

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("markdown_it", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("playwright", reason="needs pip install 'posttrain_jax[test]'")
pytest.importorskip("axe_playwright_python", reason="needs pip install 'posttrain_jax[test]'")

import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright import sync_api

from posttrain_jax.labelling import server
from posttrain_jax.labelling.app import make_app
from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.keys import RaterKeys
from posttrain_jax.labelling.session import Session
from posttrain_jax.labelling.study import EVENTS
from posttrain_jax.labelling.votes import read_votes
from tests.labelling.small_studies import make_study

CHROMIUM = pathlib.Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
FLAGS = (
  *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
  *("--disable-component-update", "--disable-sync"),
)
# What the pages look like is written there if it is set.
PICTURES = os.environ.get("LABELLING_PICTURES")
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
LOOKS = [(size, scheme) for size in (WIDE, NARROW) for scheme in ("light", "dark")]
# Rules of axe for all of WCAG 2.2 AA and of good practice.
AXE = {
  "resultTypes": ["violations"],
  "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


@pytest.fixture(scope="module")
def browser():
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
    yield browser
    browser.close()


@contextlib.contextmanager
def served(study, *, token=None, port=0):
  """Serves a study from a thread; yields its address and its keys."""
  with server._listening("127.0.0.1", port) as listener, EventLog(study.path / EVENTS) as log:
    port = listener.getsockname()[1]
    keys = RaterKeys(study.settings.raters, token)
    app = make_app(study, Session(study, log), keys, host="127.0.0.1", port=port)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
      yield f"http://127.0.0.1:{port}/", keys
    finally:
      running.should_exit = True
      thread.join(30)


@contextlib.contextmanager
def opened(browser, url, size=WIDE, scheme="light", refused="net::ERR"):
  """Opens a page; at its end nothing may have failed, except requests that are refused so."""
  narrow = size is NARROW
  context = browser.new_context(
    viewport=size, color_scheme=scheme, has_touch=narrow, is_mobile=narrow, reduced_motion="reduce"
  )
  context.set_default_timeout(5000)
  page, said = context.new_page(), []
  page.on("pageerror", lambda error: said.append(str(error)))
  page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
  page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
  try:
    page.goto(url)
    page.wait_for_selector("#work:not([hidden]), #login:not([hidden]), #done:not([hidden])")
    yield page
    assert [line for line in said if refused not in line] == []
  finally:
    context.close()


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


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_a_session_of_pairs_by_mouse(browser, tmp_path, size, scheme):
  name = f"pairs {size['width']} {scheme}"
  study = make_study(tmp_path, instructions="# Be fair\n\nLong is *not* better.")
  with served(study) as (url, _), opened(browser, url, size, scheme) as page:
    assert page.locator("#instructions").is_visible()  # before the first item
    look(page, f"{name} instructions")
    page.get_by_role("button", name="Close").click()
    for done in range(6):
      wait_for(page, done, 6)
      prompt = page.locator("#prompt").inner_text()
      if prompt == "q3":
        page.get_by_text("About the same", exact=True).click()
        assert not page.get_by_role("group", name="By how much?").is_visible()
      else:
        letter = side(page, "bad" if prompt == "q4" else "good")
        page.get_by_role("radio", name=f"Answer {letter}").check()
        page.get_by_role("button", name="Save and go on").click()
        assert page.locator("#problem").inner_text() == "Say by how much it is better."
        page.get_by_role("radio", name="Slightly better" if prompt == "q2" else "Significantly better").check()
        if prompt == "q1":
          page.get_by_role("button", name="Edit the better answer").click()
          page.get_by_label(f"Edit of answer {letter}").fill("the best")
          look(page, f"{name} edit")
      page.get_by_role("button", name="Save and go on").click()
    wait_for(page, 6, 6)
    look(page, f"{name} end")
    page.get_by_role("button", name="Undo").click()
    wait_for(page, 5, 6)
    assert page.locator("input:checked").count() >= 1  # what was said is filled in
    page.get_by_role("button", name="Save and go on").click()
    wait_for(page, 6, 6)
    assert page.evaluate("document.querySelectorAll('iframe, script[src], link[rel=stylesheet]').length") == 0
  said = labels(study)
  assert {prompt: label["better"] for prompt, label in said.items()} == {f"q{i}": 0 for i in range(6)} | {
    "q3": None,
    "q4": 1,
  }
  assert (said["q2"]["strength"], said["q0"]["strength"], said["q1"]["edited"]) == (
    "slightly",
    "significantly",
    "the best",
  )


def test_a_session_of_pairs_by_keyboard_alone(browser, tmp_path):
  study = make_study(tmp_path, instructions="Be fair.")
  with served(study) as (url, _), opened(browser, url) as page:
    press = page.keyboard.press
    press("Enter")  # closes the instructions
    page.wait_for_selector("#instructions[open]", state="detached")
    press("Enter")
    assert page.locator("#problem").inner_text() == "Say which answer is better, or that they are about the same."
    press("?")
    look(page, "keys")
    press("Escape")
    for done in range(6):
      wait_for(page, done, 6)
      prompt = page.locator("#prompt").inner_text()
      if prompt == "q3":
        press("t")
      elif prompt == "q5":
        press("x")
        continue
      else:
        letter = side(page, "good")
        press({"A": "ArrowLeft", "B": "ArrowRight"}[letter] if prompt == "q0" else letter.lower())
        press("4" if prompt == "q2" else "1")
      if prompt == "q1":
        press("e")
        page.keyboard.type(" and more, with a, b, 1, x and ?")
        press("Control+Enter")
      else:
        press("Enter")
    wait_for(page, 6, 6)
    press("u")
    wait_for(page, 5, 6)
    press("Tab")  # goes on from the top of the task
    assert page.evaluate("document.activeElement.closest('#work') !== null")
    press("x" if prompt == "q5" else "Control+Enter")  # what was said is filled in
    wait_for(page, 6, 6)
    look(page, "keyboard end")
  said = labels(study)
  assert (said["q0"]["better"], said["q2"]["strength"], said["q3"]["better"]) == (0, "negligibly", None)
  assert said["q1"]["edited"].endswith("and more, with a, b, 1, x and ?") and "q5" not in said


def test_single_keys_can_be_switched_off(browser, tmp_path):
  study = make_study(tmp_path)
  with served(study) as (url, _), opened(browser, url) as page:
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Single keys work").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.keyboard.press("a")
    assert page.locator("input[name=better]:checked").count() == 0
    wait_for(page, 0, 6)


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_ranking_by_buttons_dragging_and_keys(browser, tmp_path, size):
  study = make_study(tmp_path, RatingKind.RANKING)
  with served(study) as (url, _), opened(browser, url, size) as page:

    def entry(beginning):
      return page.locator(".ranking li", has=page.locator(".text", has_text=beginning))

    def order():
      return [text.split()[0] for text in page.locator(".ranking .text").all_inner_texts()]

    # By its buttons.
    while order()[0] != "good":
      entry("good").get_by_role("button", name="up").click()
    while order()[2] != "bad":
      entry("bad").get_by_role("button", name="down").click()
    assert order() == ["good", "fair", "bad"]
    look(page, f"ranking {size['width']}")
    page.get_by_role("button", name="Save and go on").click()
    wait_for(page, 1, 4)
    # By dragging.
    while order() != ["good", "fair", "bad"]:
      out = next(word for word, at in zip(order(), ("good", "fair", "bad")) if word != at)
      target = page.locator(".ranking li").last
      entry(out).locator(".grip").drag_to(target, target_position={"x": 30, "y": target.bounding_box()["height"] - 5})
    page.get_by_role("button", name="Save and go on").click()
    wait_for(page, 2, 4)
    # By keys: to an answer by its letter, then to its place, then a tie.
    for place_at, beginning in enumerate(("good", "fair", "bad"), 1):
      letter = entry(beginning).locator(".handle").inner_text()[-1].lower()
      page.keyboard.press(letter)
      page.keyboard.press(str(place_at))
    assert order() == ["good", "fair", "bad"]
    page.keyboard.press("=")
    assert page.locator("#status").inner_text().endswith("has rank 2 of 3")
    look(page, f"ranking {size['width']} tied")
    page.keyboard.press("Enter")
    wait_for(page, 3, 4)
    page.keyboard.press("u")
    wait_for(page, 2, 4)
    assert order() == ["good", "fair", "bad"] and page.locator("li.tied").count() == 1
    page.keyboard.press("Enter")
    wait_for(page, 3, 4)
    page.keyboard.press("a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    wait_for(page, 4, 4)
  ranks = [vote.label["ranks"] for votes in read_votes(study).by_item.values() for vote in votes]
  assert len(ranks) == 4 and sorted(map(tuple, ranks))[:1] == [(0, 1, 1)] and ranks.count([0, 1, 2]) >= 2


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_writing_demonstrations_keeps_a_draft(browser, tmp_path, size, scheme):
  study = make_study(tmp_path, RatingKind.DEMONSTRATIONS)
  with served(study) as (url, _), opened(browser, url, size, scheme) as page:
    page.get_by_role("button", name="Save and go on").click()
    assert page.locator("#problem").inner_text() == "Write an answer."
    page.keyboard.press("e")
    page.keyboard.type("a draft")
    look(page, f"writing {size['width']} {scheme}")
    page.reload()
    page.wait_for_selector("#work:not([hidden])")
    assert page.get_by_label("Your answer").input_value() == "a draft"
    for done in range(4):
      wait_for(page, done, 4)
      page.get_by_label("Your answer").fill(f"to {page.locator('#prompt').inner_text()}")
      page.keyboard.press("Control+Enter")
    wait_for(page, 4, 4)
  assert labels(study) == {f"q{i}": {"text": f"to q{i}"} for i in range(4)}


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "dark"), (NARROW, "light")])
def test_accepting_rejecting_and_editing(browser, tmp_path, size, scheme):
  study = make_study(tmp_path, RatingKind.ACCEPT)
  with served(study) as (url, _), opened(browser, url, size, scheme) as page:
    for done in range(4):
      wait_for(page, done, 4)
      prompt = page.locator("#prompt").inner_text()
      page.keyboard.press({"q0": "r", "q1": "e"}.get(prompt, "a"))
      if prompt == "q1":
        page.get_by_label("Edit of the answer").fill("edited")
        look(page, f"accept {size['width']} {scheme}")
      page.keyboard.press("Control+Enter")
    wait_for(page, 4, 4)
  said = labels(study)
  assert [said[f"q{i}"]["accepted"] for i in range(4)] == [False, True, True, True] and said["q1"]["edited"] == "edited"


def test_hostile_answers_are_shown_as_text(browser, tmp_path):
  attacks = [
    "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>",
    "[click](javascript:alert(4)) <a href='javascript:alert(5)'>click</a>",
    "safe \u202e evil \u2066 hidden\u200b",
    "null \0 and bell \u0007",
    "x" * 1_000_000,
    "</script><style>*{display:none}</style>",
  ]
  rows = [{"prompt": "<b>which?</b>", "answers": attacks}]
  study = make_study(tmp_path, RatingKind.RANKING, rows=rows)
  with served(study) as (url, _), opened(browser, url) as page:
    texts = page.locator(".ranking .text").all_inner_texts()
    assert sum("<script>alert(1)</script><img" in text for text in texts) == 1
    assert sum("safe U+202E evil U+2066 hiddenU+200B" in text for text in texts) == 1
    assert sum("null U+0000 and bell U+0007" in text for text in texts) == 1
    assert max(map(len, texts)) < 25_000
    page.get_by_role("button", name="Show all 1,000,000 characters").click()
    assert max(map(len, page.locator(".ranking .text").all_inner_texts())) == 1_000_000
    assert page.locator("#prompt").inner_text() == "<b>which?</b>"
    assert page.locator("#work :is(script, img, svg, style, b, a)").count() == 0
    look(page, "hostile")


def test_a_page_waits_for_its_server_and_stores_once(browser, tmp_path):
  study = make_study(tmp_path)
  with served(study) as (url, _):
    port = int(url.rsplit(":", 1)[1].strip("/"))
    context = opened(browser, url)
    page = context.__enter__()
  try:  # the server is gone
    page.keyboard.press("a")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("#trouble")).to_contain_text("The server does not answer")
    look(page, "trouble")
    with served(study, port=port):
      wait_for(page, 1, 6)
      assert not page.locator("#trouble").is_visible()
  finally:
    context.__exit__(None, None, None)
  assert len((study.path / EVENTS).read_text().splitlines()) == 1


def test_two_windows_do_not_rate_an_item_twice(browser, tmp_path):
  study = make_study(tmp_path)
  with served(study) as (url, _), opened(browser, url) as one, opened(browser, url, refused="409") as two:
    for page in (one, two):
      page.keyboard.press("t")
    one.keyboard.press("Enter")
    wait_for(one, 1, 6)
    two.keyboard.press("Enter")
    wait_for(two, 1, 6)
  events = [json.loads(line) for line in (study.path / EVENTS).read_text().splitlines()]
  assert len(events) == 1


def test_raters_say_who_they_are(browser, tmp_path):
  study = make_study(tmp_path, raters=("ann", "bob"), overlap=2)
  with served(study) as (url, _), opened(browser, url) as page:
    look(page, "names")
    page.get_by_label("Your name").select_option("bob")
    page.get_by_role("button", name="Start").click()
    wait_for(page, 0, 6)
    assert page.locator("h1").inner_text() == "Rating as bob"
  with served(study, token="a-secret-of-the-study") as (url, keys), opened(browser, url, refused="401") as page:
    page.get_by_label("Your key").fill("guess")
    page.get_by_role("button", name="Start").click()
    sync_api.expect(page.locator("#login-problem")).to_have_text("This key is not one of this study.")
    look(page, "keys of raters")
    page.get_by_label("Your key").fill(keys.key("ann"))
    page.get_by_role("button", name="Start").click()
    wait_for(page, 0, 6)
    page.reload()
    wait_for(page, 0, 6)
    assert page.locator("h1").inner_text() == "Rating as ann"
