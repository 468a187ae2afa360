"""Shows the page hostile texts, two windows, wrong raters, and a server that is gone."""

import json

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("markdown_it", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("playwright", reason="needs pip install 'posttrain_jax[test]'")
pytest.importorskip("axe_playwright_python", reason="needs pip install 'posttrain_jax[test]'")

from playwright import sync_api

from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.study import EVENTS
from tests.labelling import browsing
from tests.labelling.browsing import look, opened, served, wait_for
from tests.labelling.small_studies import make_study

pytestmark = browsing.needs_chromium


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
  with served(study) as (url, _), opened(browser, url) as one, opened(browser, url, expected=["409"]) as two:
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
    page.goto(f"{url}#rater=ann")  # another link in the same window
    sync_api.expect(page.locator("h1")).to_have_text("Rating as ann")
  with served(study, token="a-secret-of-the-study") as (url, keys), opened(browser, url, expected=["401"]) as page:
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
