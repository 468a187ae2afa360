"""Ranks, writes and accepts in a browser, wide and narrow, light and dark."""

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("markdown_it", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("playwright", reason="needs pip install 'posttrain_jax[test]'")
pytest.importorskip("axe_playwright_python", reason="needs pip install 'posttrain_jax[test]'")


from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.votes import read_votes
from tests.labelling import browsing
from tests.labelling.browsing import NARROW, WIDE, labels, look, opened, served, wait_for
from tests.labelling.small_studies import make_study

pytestmark = browsing.needs_chromium


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
