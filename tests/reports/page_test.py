import jinja2
import pytest

from posttrain_jax.reports.page import environment


@pytest.fixture
def render(tmp_path):
  def run(template, **names):
    (tmp_path / "page.html.jinja").write_text(template)
    return environment(tmp_path).get_template("page.html.jinja").render(**names)

  return run


def test_text_is_escaped(render):
  assert render("<b>{{ text }}</b>", text="<i>&") == "<b>&lt;i&gt;&amp;</b>"


def test_a_block_leaves_no_empty_line(render):
  assert render("a\n  {% if true %}\nb\n  {% endif %}\nc\n") == "a\nb\nc"


def test_a_name_that_the_page_lacks_is_an_error(render):
  with pytest.raises(jinja2.UndefinedError, match="absent"):
    render("{{ absent }}")
