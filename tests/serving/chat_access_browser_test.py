"""Uses the page by keyboard alone, and audits it wide and narrow, light and dark."""

import pytest

from tests.headless import NARROW, WIDE
from tests.serving.chat_browsing import echo, faults, finished, opened, rows, send, show
from tests.serving.fake_chat import fake_chat


def test_the_keyboard_suffices(browser, tmp_path):
  with fake_chat(lambda asked: ["slow ", *[0.1] * 30, "end"], tmp_path) as (url, _), opened(browser, url) as page:

    def name():
      return page.evaluate("document.activeElement.textContent || document.activeElement.id")

    def tab_to(label):
      for _ in range(20):
        page.keyboard.press("Tab")
        if name() == label or page.evaluate("document.activeElement.ariaLabel") == label:
          outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
          assert outline == "solid", label
          return
      raise AssertionError(f"Tab does not reach {label}")

    page.wait_for_function("document.activeElement.id === 'question'")
    page.keyboard.type("hi")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    page.get_by_text("slow").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("Stopped.").wait_for()
    assert name() == "question"
    page.get_by_label("Message", exact=True).press("Shift+Tab")
    assert name() == "Another answer"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "Bad answer"
    page.keyboard.press("Space")
    page.get_by_text("Stored, thank you").wait_for()
    tab_to("Edit")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.labels[0].textContent") == "Edited answer"
    page.keyboard.press("Control+A")
    page.keyboard.type("better")
    tab_to("Save edit")
    page.keyboard.press("Enter")
    page.get_by_text("Edit stored").wait_for()
    assert name() == "Edit again"
  assert rows(tmp_path, "edits.jsonl")[0]["completion"] == "better"
  assert rows(tmp_path, "edits.jsonl")[0]["prompt"][0]["content"] == "hi\nthere"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_an_audit_finds_nothing(size, scheme, browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, _), opened(browser, url, size, scheme) as page:
    look = f"{size['width']}_{scheme}"

    def audit(name):
      show(page, f"{name}_{look}")
      assert faults(page) == ""
      assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    audit("empty")
    page.get_by_text("Settings").click()
    audit("settings")
    page.get_by_text("Settings").click()
    send(page, "hi there")
    finished(page)
    page.get_by_role("button", name="Good answer").click()
    page.get_by_text("Stored, thank you").wait_for()
    page.get_by_text("Reasoning").click()
    audit("answer")
    page.get_by_role("button", name="Edit").click()
    audit("edit")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_label("Compare with").select_option("large")
    send(page, "compare, please")
    page.get_by_text("Which one is better?").wait_for()
    audit("vote")
    page.get_by_role("button", name="B is better").click()
    page.get_by_text("Stored, thank you").nth(1).wait_for()
    audit("voted")
