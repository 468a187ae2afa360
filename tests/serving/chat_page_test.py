import base64
import hashlib
import html.parser
import re

from posttrain_jax.serving.chat_page import page


class Parts(html.parser.HTMLParser):
  """Collects a page's elements and the texts of its scripts and styles."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self._in = [], {"script": [], "style": []}, None
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))
    self._in = tag

  def handle_data(self, data):
    if self._in in self.texts:
      self.texts[self._in].append(data)

  def handle_endtag(self, tag):
    self._in = None


def test_the_policy_names_the_scripts_and_styles_and_nothing_else():
  text, policy = page()
  rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
  for kind in ("script", "style"):
    (source,) = Parts(text).texts[kind]
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
  assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'" and "unsafe" not in policy
  assert rules["require-trusted-types-for"] == "'script'"


def test_the_page_loads_nothing_and_has_no_handlers_in_its_html():
  for tag, attributes in Parts(page()[0]).elements:
    assert not any(name.startswith("on") or name in ("src", "style") for name in attributes), (tag, attributes)
    assert attributes.get("href", "data:").startswith("data:")


def test_no_text_becomes_html():
  (script,) = Parts(page()[0]).texts["script"]
  assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc", script)


def test_every_field_has_a_label():
  elements = Parts(page()[0]).elements
  labelled = {attributes.get("for") for tag, attributes in elements if tag == "label"}
  fields = {attributes["id"] for tag, attributes in elements if tag in ("input", "select", "textarea")}
  assert fields and fields <= labelled
