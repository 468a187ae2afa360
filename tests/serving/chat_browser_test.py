"""Talks with the page in a headless browser: wide and narrow, light and dark, by mouse and by keyboard."""

import contextlib
import http.server
import json
import os
import pathlib
import threading
import urllib.request

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("playwright", reason="needs pip install 'posttrain_jax[test]'")
pytest.importorskip("axe_playwright_python", reason="needs pip install 'posttrain_jax[test]'")

from axe_playwright_python import sync_playwright as axe
from playwright import sync_api

from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.prompts import read_jsonl
from posttrain_jax.evaluation.labelled_pairs import read_labels
from posttrain_jax.serving.chat_routes import ChatModel, chat_routes
from posttrain_jax.serving.feedback_store import FeedbackStore
from tests.serving.fake_chat import fake_chat
from tests.serving.local_server import new_app, served
from tests.serving.served import asked

CHROMIUM = pathlib.Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
FLAGS = (
  *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
  *("--disable-component-update", "--disable-sync"),
)
# What the page looks like is written there if it is set.
PICTURES = os.environ.get("CHAT_PICTURES")
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
AXE = {
  "resultTypes": ["violations"],
  "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
TOKEN = "0123456789abcdef"
HOSTILE = (
  "<img src=x onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>"
  "&lt;b&gt; \u202egnp.exe\u2066 \x1b[31m <a href='javascript:1'>x</a> " + "W" * 300
)


@pytest.fixture(scope="module")
def browser():
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
    yield browser
    browser.close()


@contextlib.contextmanager
def opened(browser, url, size=WIDE, scheme="light", expected=(), ready=True):
  """Opens a page; at its end nothing but what is expected may have gone wrong in it."""
  narrow = size is NARROW
  context = browser.new_context(
    viewport=size, color_scheme=scheme, has_touch=narrow, is_mobile=narrow, reduced_motion="reduce"
  )
  context.set_default_timeout(10_000)
  page, said = context.new_page(), []
  page.on("pageerror", lambda error: said.append(str(error)))
  page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
  page.goto(url)
  if ready:
    page.locator("#model option").first.wait_for(state="attached")
  yield page
  assert [each for each in said if not any(part in each for part in expected)] == []
  context.close()


def echo(request):
  """Answers with a thought, and with what the request has."""
  yield "<think> the user says"
  yield " something </think> "
  yield f"{request['model']} at {request['temperature']} to {len(request['messages'])}: "
  yield request["messages"][-1]["content"]


def send(page, text):
  page.get_by_label("Message", exact=True).fill(text)
  page.keyboard.press("Enter")


def finished(page):
  page.get_by_text("The answer is there.").wait_for()


def rows(folder, name):
  return [row.columns for row in read_jsonl(folder / name)] if (folder / name).read_text() else []


def show(page, name):
  if PICTURES:
    page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


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


def test_votes_are_blind_and_stored(browser, tmp_path):
  """Who is A is drawn anew for each question, and told after the vote alone."""
  sides = set()
  with (
    fake_chat(lambda asked: [f"I am {asked['model'][0]}"], tmp_path) as (url, requests),
    opened(browser, url) as page,
  ):
    page.get_by_label("Compare with").select_option("large")
    page.get_by_label("Model", exact=True).select_option("small")
    for number in range(8):
      send(page, f"question {number}")
      page.get_by_text("Which one is better?").wait_for()
      cards = page.locator("article")
      titles = [cards.nth(2 * number + place).locator("h3").inner_text() for place in (0, 1)]
      assert titles == ["Answer A", "Answer B"]
      show(page, "compare_wide") if number == 0 else None
      assert page.get_by_role("button", name="Send").is_disabled()
      page.get_by_role("button", name=["A is better", "B is better", "Equally good"][number % 3]).last.click()
      page.get_by_text("Stored, thank you").nth(number).wait_for()
      revealed = [cards.nth(2 * number + place).locator("h3").inner_text() for place in (0, 1)]
      sides.add(tuple(revealed))
    send(page, "last")
    page.get_by_text("Which one is better?").wait_for()
    page.get_by_role("button", name="Skip").click()
  assert sides == {
    ("Answer A: small (v5)", "Answer B: large (v5)"),
    ("Answer A: large (v5)", "Answer B: small (v5)"),
  }
  assert len(rows(tmp_path, "votes.jsonl")) == 6 and len(rows(tmp_path, "ties.jsonl")) == 2
  vote = rows(tmp_path, "votes.jsonl")[0]
  assert [answer["content"] for answer in judgement(vote).answers] == [vote["chosen"], vote["rejected"]]
  assert {vote["chosen_from"], vote["rejected_from"]} == {"small", "large"}
  assert vote["chosen_version"] == "v5" and isinstance(vote["chosen_sampling"]["seed"], int)
  labels, _ = read_labels(read_jsonl(tmp_path / "votes.jsonl") + read_jsonl(tmp_path / "ties.jsonl"))
  assert len(labels) == 8
  # The conversation went on from the better answer.
  said = requests[2]["messages"]
  assert said[1]["content"] == vote["chosen"]


def test_thumbs_and_edits_are_stored(browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, requests), opened(browser, url) as page:
    send(page, "hi")
    finished(page)
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_text("Stored, thank you").wait_for()
    assert page.get_by_role("button", name="Bad answer").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Good answer").click(force=True)  # a vote is final
    page.get_by_role("button", name="Edit").click()
    field = page.get_by_label("Edited answer")
    assert field.input_value().startswith("<think> the user says")
    page.get_by_role("button", name="Save edit").click()
    page.get_by_text("The edited answer is empty, or as it was.").wait_for()
    field.fill("A better answer")
    page.get_by_role("button", name="Save edit").click()
    page.get_by_text("Edit stored").wait_for()
    page.locator("article").get_by_text("A better answer", exact=True).wait_for()
    send(page, "more")
    page.get_by_text("to 3: more").wait_for()
  assert requests[1]["messages"][1]["content"] == "A better answer"
  assert rows(tmp_path, "liked.jsonl") == []
  (down,), (edit,) = rows(tmp_path, "disliked.jsonl"), rows(tmp_path, "edits.jsonl")
  assert down["client"] == edit["client"] and len(down["client"]) == 32
  assert edit["chosen"] == edit["completion"] == "A better answer" and edit["rejected"] == down["completion"]
  assert edit["prompt"] == [{"role": "user", "content": "hi"}]


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


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_hostile_answer_stays_text(size, browser, tmp_path):
  with fake_chat(lambda _: [HOSTILE], tmp_path) as (url, _), opened(browser, url, size) as page:
    send(page, HOSTILE)
    finished(page)
    text = page.locator("article .text").last.inner_text()
    assert text.startswith("<img src=x onerror=\"document.title='broken'\"></script><script>document.title")
    assert "&lt;b&gt; ⟨U+202E⟩gnp.exe⟨U+2066⟩ ⟨U+001B⟩[31m <a href" in text
    assert page.title() == "Chat"
    assert page.locator("article img, article script, article a, .question img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="Good answer").click()
    page.get_by_text("Stored, thank you").wait_for()
    show(page, f"hostile_{size['width']}")
  assert rows(tmp_path, "liked.jsonl")[0]["completion"] == HOSTILE  # what is stored is what was said


def test_the_browser_makes_no_html_of_a_text(browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, _), opened(browser, url, expected=["TrustedHTML"]) as page:
    refused = "() => { try { document.body.innerHTML = '<b>x</b>'; return ''; } catch (error) { return error.name; } }"
    assert page.evaluate(refused) == "TypeError"


SAID = {
  "kind": "thumb",
  "id": "id-00001",
  "client": "client-01",
  "prompt": [{"role": "user", "content": "hi"}],
  "answer": {"text": "x", "model": "small", "version": None, "sampling": {}},
  "up": True,
}


@contextlib.contextmanager
def hostile_page(target):
  """Serves a page of another origin that writes to a server: by a script, a form, an image."""
  said = json.dumps(SAID)
  text = f"""<!doctype html><title>elsewhere</title>
    <form method=post enctype=text/plain action="{target}" target=frame>
      <input name='{said[:-1]}, "a":"' value='"}}'>
    </form>
    <iframe name=frame></iframe><img src="{target}">
    <script>
      fetch("{target}", {{method: "POST", mode: "no-cors", body: {json.dumps(said)}}}).catch(() => 0).finally(() => {{
        document.forms[0].submit();
      }});
      document.querySelector("iframe").addEventListener("load", () => {{ document.title = "done"; }});
    </script>"""

  class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
      pass

    def do_GET(self):
      self.send_response(200)
      self.send_header("Content-Type", "text/html")
      self.end_headers()
      self.wfile.write(text.encode())

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/"
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_of_another_origin_stores_nothing(browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, _), hostile_page(f"{url}/feedback") as elsewhere:
    context = browser.new_context()
    page, sent, statuses = context.new_page(), [], []
    page.on("request", lambda each: sent.append(each.method))
    page.on("response", lambda each: statuses.append(each.status))
    page.goto(elsewhere)
    page.wait_for_timeout(1000)
    context.close()
    assert sent.count("POST") == 2 and 403 in statuses, (sent, statuses)
    assert rows(tmp_path, "liked.jsonl") == []
    urllib.request.urlopen(f"{url}/feedback", json.dumps(SAID).encode()).close()  # a program may say the same
  assert len(rows(tmp_path, "liked.jsonl")) == 1


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


def test_without_feedback_there_is_nothing_to_rate(browser, tmp_path):
  with fake_chat(echo, tmp_path, stores=False) as (url, _), opened(browser, url) as page:
    send(page, "hi")
    finished(page)
    assert page.get_by_role("button", name="Good answer").count() == 0
    assert page.get_by_role("button", name="Edit").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_an_audit_finds_nothing(size, scheme, browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, _), opened(browser, url, size, scheme) as page:
    look = f"{size['width']}_{scheme}"

    def audit(name):
      show(page, f"{name}_{look}")
      # What the browser's policy refuses to load from elsewhere is put in by the browser itself.
      found = axe.Axe().run(page, options=AXE)
      assert found.violations_count == 0, found.generate_report()
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


def test_a_real_model_is_talked_with_and_rated(browser, model, tmp_path):
  shown = {"tiny": ChatModel(model.tokenizer.chat_template is not None, model.sizes.max_new_tokens)}
  with contextlib.ExitStack() as entered:
    store = entered.enter_context(FeedbackStore(tmp_path))
    url = entered.enter_context(served(new_app(model, routes=chat_routes(shown, store))))
    with opened(browser, url, expected=["422"]) as page:
      page.get_by_text("Settings").click()
      page.get_by_label("Seed").fill("7")
      page.get_by_label("Compare with").select_option(label="itself")
      send(page, "hi")
      page.get_by_text("Which one is better?").wait_for()
      page.get_by_role("button", name="A is better").click()
      page.get_by_text("Stored, thank you").wait_for()
      page.get_by_role("button", name="New conversation").click()
      send(page, "a question of more than forty tokens, which is the limit of this model")
      page.get_by_text("No whole answer: prompt: ").first.wait_for()
  (vote,) = rows(tmp_path, "votes.jsonl")
  assert vote["chosen_version"] == vote["rejected_version"] == model.version
  assert {vote["chosen_sampling"]["seed"], vote["rejected_sampling"]["seed"]} == {7, 8}
  # What is stored is what the model said, and can be drawn again from what is stored with it.
  sampling = vote["chosen_sampling"]
  again = asked(tuple(vote["prompt"]), **{name: sampling[name] for name in ("temperature", "top_p", "seed")})
  assert "".join(piece.text for piece in model.pieces(again)) == vote["chosen"]
