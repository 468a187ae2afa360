"""Rates pairs in a browser: by mouse and by keyboard, wide and narrow, light and dark."""

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("markdown_it", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("playwright", reason="needs pip install 'posttrain_jax[test]'")
pytest.importorskip("axe_playwright_python", reason="needs pip install 'posttrain_jax[test]'")


from tests.labelling import browsing
from tests.labelling.browsing import LOOKS, labels, look, opened, served, side, wait_for
from tests.labelling.small_studies import make_study

pytestmark = browsing.needs_chromium


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
