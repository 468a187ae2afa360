import base64
import hashlib
import re

import pytest

pytest.importorskip("markdown_it", reason="needs pip install 'posttrain_jax[label]'")

from posttrain_jax.labelling.page import instructions_html, page


def test_the_page_is_one_file_and_runs_its_own_script_only():
  html, policy = page()
  assert "/*" not in re.sub(r"/\* [^/]* \*/", "", html)  # all places are filled
  assert re.findall(r"<(?:script|link|img|iframe|object|base)\b[^>]*>", html) == [
    '<link rel="icon" href="data:,">',
    "<script>",
  ]
  assert not re.search(r"https?://|<[^>]* (?:style|on[a-z]+)=", html)
  for tag, rule in (("script", "script-src"), ("style", "style-src")):
    text = html.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{rule} 'sha256-{digest}'" in policy and len(text) > 1000
  assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "frame-ancestors 'none'" in policy


def test_nothing_of_the_data_is_read_as_html():
  html, _ = page()
  script = html.partition("<script>")[2]
  assert re.findall(r"(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\()[^;]*", script) == [
    "innerHTML = next.instructions"
  ]


@pytest.mark.parametrize(
  ("markdown", "html"),
  [
    ("# Be *fair*", "<h1>Be <em>fair</em></h1>"),
    ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
    ("a <img src=x onerror=alert(1)>", "<p>a &lt;img src=x onerror=alert(1)&gt;</p>"),
    ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
    ("[x](JaVaScript&colon;alert(1))", "<p>[x](JaVaScript:alert(1))</p>"),
    ("[x](https://example.org)", '<p><a href="https://example.org">x</a></p>'),
    ('[x](https://example.org "\'><b>")', '<p><a href="https://example.org" title="\'&gt;&lt;b&gt;">x</a></p>'),
  ],
)
def test_instructions_are_rendered_and_escaped(markdown, html):
  assert instructions_html(markdown).strip() == html
