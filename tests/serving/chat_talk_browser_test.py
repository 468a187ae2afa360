"""Talks with the page: streaming, settings, the token, what goes wrong."""

from tests.serving.chat_browsing import echo, finished, opened, rows, send, show
from tests.serving.fake_chat import fake_chat

TOKEN = "0123456789abcdef"


def test_answers_come_piece_by_piece_and_thoughts_are_folded(browser, tmp_path):
  pieces = ["<think>hm</think>", "first ", 3.0, "second"]
  with fake_chat(lambda _: pieces, tmp_path) as (url, _), opened(browser, url) as page:
    send(page, "hi")
    page.get_by_text("first", exact=True).wait_for()
    assert page.get_by_text("second").count() == 0
    assert page.get_by_role("button", name="Stop").is_visible()
    assert not page.get_by_text("hm").is_visible()
    page.get_by_text("Reasoning").click()
    assert page.get_by_text("hm").is_visible()
    page.get_by_text("first second").wait_for()
    finished(page)
    assert page.get_by_role("button", name="Stop").count() == 0


def test_the_conversation_and_the_settings_are_sent(browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, requests), opened(browser, url) as page:
    page.get_by_text("Settings").click()
    page.get_by_label("System message").fill("Be kind.")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Top p").fill("0.9")
    assert page.get_by_label("Tokens at most").input_value() == "100"  # no more than the server allows
    page.get_by_label("Tokens at most").fill("20")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Model", exact=True).select_option("large")
    send(page, "hi")
    page.get_by_text("large at 0.5 to 2: hi").wait_for()
    finished(page)
    send(page, "again")
    page.get_by_text("large at 0.5 to 4: again").wait_for()
    finished(page)
    page.get_by_role("button", name="Another answer").click()
    page.get_by_text("large at 0.5 to 4: again").nth(1).wait_for()
    page.get_by_role("button", name="New conversation").click()
    send(page, "new")
    page.get_by_text("large at 0.5 to 2: new").wait_for()
  first = requests[0]
  assert (first["temperature"], first["top_p"], first["max_tokens"], first["seed"]) == (0.5, 0.9, 20, 7)
  assert [message["role"] for message in requests[1]["messages"]] == ["system", "user", "assistant", "user"]
  assert requests[1]["messages"][2]["content"].startswith("<think>")


def test_settings_out_of_range_send_nothing(browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, requests), opened(browser, url) as page:
    page.get_by_text("Settings").click()
    page.get_by_label("Top p").fill("2")
    send(page, "hi")
    assert page.get_by_label("Top p").evaluate("field => field === document.activeElement")
  assert requests == []


def test_a_model_without_a_chat_template_reads_the_question_alone(browser, tmp_path):
  with fake_chat(echo, tmp_path, models={"words": False}) as (url, requests), opened(browser, url) as page:
    for text in ("one", "two"):
      send(page, text)
      page.get_by_text(f"to 1: {text}").wait_for()
      finished(page)
    page.get_by_role("button", name="Good answer").last.click()
    page.get_by_text("Stored, thank you").wait_for()
  assert [len(each["messages"]) for each in requests] == [1, 1]
  assert rows(tmp_path, "liked.jsonl")[0]["prompt"] == "two"


def test_the_token_comes_in_the_address_or_is_asked_for(browser, tmp_path):
  with fake_chat(echo, tmp_path, token=TOKEN) as (url, _):
    with opened(browser, f"{url}/#token={TOKEN}") as page:
      send(page, "hi")
      finished(page)
      assert TOKEN not in page.url
      page.reload()
      send(page, "again")
      finished(page)
    with opened(browser, url, expected=["401"], ready=False) as page:
      page.get_by_role("textbox", name="Token").fill("wrong")
      page.keyboard.press("Enter")
      page.get_by_text("This token is not accepted.").wait_for()
      page.get_by_role("textbox", name="Token").fill(TOKEN)
      show(page, "token")
      page.keyboard.press("Enter")
      send(page, "hi")
      finished(page)


def test_what_goes_wrong_is_said(browser, tmp_path):
  def broken(asked):
    yield "begun "
    raise RuntimeError("gone")

  with fake_chat(broken, tmp_path) as (url, _), opened(browser, url, expected=["ERR_INCOMPLETE", "Failed"]) as page:
    send(page, "hi")
    page.get_by_text("No whole answer").wait_for()
    show(page, "broken")
    page.route("**/feedback", lambda route: route.fulfill(status=507, body='{"error": {"message": "disk is full"}}'))
  with fake_chat(echo, tmp_path) as (url, _), opened(browser, url, expected=["507"]) as page:
    page.route("**/feedback", lambda route: route.fulfill(status=507, body='{"error": {"message": "disk is full"}}'))
    send(page, "hi")
    finished(page)
    page.get_by_role("button", name="Good answer").click()
    page.get_by_text("Not stored: disk is full").wait_for()
    page.unroute("**/feedback")
    page.get_by_role("button", name="Good answer").click()
    page.get_by_text("Stored, thank you").wait_for()
  assert len(rows(tmp_path, "liked.jsonl")) == 1


def test_a_page_that_is_loaded_again_goes_on_with_the_conversation(browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, requests), opened(browser, url) as page:
    page.get_by_text("Settings").click()
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Model", exact=True).select_option("large")
    send(page, "<b>hi</b>")
    finished(page)
    page.get_by_label("Message", exact=True).fill("not sent")
    page.reload()
    page.get_by_text("The conversation from before.").wait_for()
    assert page.get_by_text("<b>hi</b>", exact=True).count() == 1  # as text
    assert page.get_by_text("large at 0.5 to 1: <b>hi</b>").count() == 1
    assert page.get_by_role("button", name="Good answer").count() == 0
    assert page.get_by_label("Message", exact=True).input_value() == "not sent"
    show(page, "loaded_again")
    send(page, "again")
    page.get_by_text("large at 0.5 to 3: again").wait_for()
    finished(page)
    page.get_by_role("button", name="New conversation").click()
    page.reload()
    send(page, "new")
    page.get_by_text("large at 0.5 to 1: new").wait_for()
  assert requests[1]["messages"][1]["content"].startswith("<think>")
