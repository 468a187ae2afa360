import pytest

from posttrain_jax.serving.shown_text import ShownAnswer, harmless


def shown(*pieces):
  answer = ShownAnswer()
  found = [part for piece in pieces for part in answer.add(piece)] + answer.end()
  return "".join(part.text for part in found if part.is_thought), "".join(
    part.text for part in found if not part.is_thought
  )


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("\x1b[31mred\x1b]0;title\x07", "␛[31mred␛]0;title␇"),
    ("a\rb\x00\x08", "a␍b␀␈"),
    ("\x9b31m\x7f", "�31m�"),
    ("abc\u202egnp.exe\u2066\u200f", "abc�gnp.exe��"),
    ("half \ud800", "half �"),
    ("line\u2028line", "line�line"),
    ("tab\tline\nümlaut 漢字 🙂", "tab\tline\nümlaut 漢字 🙂"),
  ],
)
def test_what_a_terminal_obeys_becomes_a_sign(text, expected):
  assert harmless(text) == expected
  assert shown(text) == ("", expected)
  assert shown(*text) == ("", expected)


def test_a_thought_is_told_apart_wherever_the_pieces_end():
  text = "<think> 1 < 2 </thin </think> so 3 </think> <thin"
  expected = ("<think> 1 < 2 </thin </think>", " so 3 </think> <thin")
  assert shown(text) == expected
  assert shown(*text) == expected
  for cut in range(len(text)):
    assert shown(text[:cut], text[cut:]) == expected


def test_what_cannot_be_a_tag_is_shown_at_once():
  answer = ShownAnswer()
  assert [part.text for part in answer.add("a <thi")] == ["a "]
  assert [part.text for part in answer.add("s")] == ["<this"]


def test_a_thought_without_an_end_stays_a_thought():
  assert shown("<think>on and on") == ("<think>on and on", "")
