"""Shows hostile answers on the page, and writes to its server from another one."""

import contextlib
import http.server
import json
import threading
import urllib.request

import pytest

from tests.headless import NARROW, WIDE
from tests.serving.chat_browsing import echo, finished, opened, rows, send, show
from tests.serving.fake_chat import fake_chat

HOSTILE = (
  "<img src=x onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>"
  "&lt;b&gt; \u202egnp.exe\u2066 \x1b[31m <a href='javascript:1'>x</a> " + "W" * 300
)


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
