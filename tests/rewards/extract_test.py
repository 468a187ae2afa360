import time

import hypothesis
import pytest
from hypothesis import strategies as st

from posttrain_jax.rewards import extract
from posttrain_jax.rewards.extract import AnswerStyle

# Text that is dense in what the extractors look for.
FRAGMENTS = [
  "\\boxed{",
  "}",
  "{",
  "\\",
  "<answer>",
  "</answer>",
  "Answer:",
  "answer :",
  "####",
  "\n",
  " ",
  "-",
  "−",
  "$",
]
FRAGMENTS += ["0", "7", "12", ",", ".", "/", "^", "e", "**", "٣", "²", "x", "\\}", "\\frac"]
hostile_text = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS)).map("".join))


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("Answer: 42", "42"),
    ("so\nAnswer: 3\nwait\nanswer : 4 \n\nbye", "4"),
    ("Answer: 3 Answer: 4", "4"),
    ("**Answer:** 42", "42"),
    ("**Answer: 42**\n", "42"),
    ("Answer:\n42", "42"),
    ("**Answer**: 42", "42"),
    ("__Answer__: 7", "7"),
    ("***Answer*** : **7**", "7"),
    ("`Answer`: 7", "7"),
    ("> **Final Answer**: 7", "7"),
    ("<b>Answer</b>: 7", "7"),
    ("<strong>Answer: 7</strong>", "7"),
    ("\\textbf{Answer}: 7", "7"),
    ("\\textbf{Answer: 7}", "7"),
    ("ANSWER：7", "7"),
    ("Answer:\n\\[\n42\n\\]", "42"),
    ("Answer: \\{1, 2\\}", "\\{1, 2\\}"),
    ("my_answer: 42", None),
    ("Answer: $\\boxed{7}$", "7"),
    ("The last line should be 'Answer: $Answer'.", "$Answer'."),  # a prompt's echo: no number
    ("Answer:", None),
    ("Answer: \n \n", None),
    ("", None),
    ("42", None),
    ("myanswer: 42", None),
    ("Answer: 42" + "x" * 290, "42" + "x" * 290),
    ("Answer: 42" + "\n" * 293, None),  # the marker is cut by the window of 300 characters
  ],
)
def test_answer_line(text, expected):
  assert extract.answer_line(text) == expected


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("\\boxed{1} then \\boxed{ 2 }.", "2"),
    ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
    ("\\boxed{x = \\boxed{5}}", "5"),
    ("\\boxed{1} and \\boxed{2", None),  # truncated in its last box: no answer, not an earlier one
    ("\\boxed{}", None),
    ("\\boxed{1\\}", None),
    ("boxed{1}", None),
    ("\\boxed {5}", "5"),
    ("\\boxed\n{5}", "5"),
    ("\\fbox{5}", "5"),
    ("so \\boxed 5", "5"),
    ("so $\\boxed 2.$", "2"),
    ("so \\[\\boxed -2.5.\\]", "-2.5"),
    ("(\\boxed 1,234)", "1,234"),
    ("\\boxed (3,4), as wanted", "(3,4)"),
    ("\\boxed \\frac{1}{2}.", "\\frac{1}{2}"),
    ("\\boxed\\frac 12", "\\frac 12"),
    ("\\boxed 2\\text{ square cm}.", "2\\text{ square cm}"),
    ("\\boxed", None),
    ("\\boxed \\text{open", None),
    ("\\boxedstyle{5}", None),
    ("", None),
  ],
)
def test_boxed(text, expected):
  assert extract.boxed(text) == expected


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("<answer>1</answer><answer> 2\n</answer> end", "2"),
    ("<answer>\\boxed{2}</answer>", "2"),
    ("<answer>1</answer> <answer>2", None),
    ("</answer>1<answer>", None),
    ("<answer><answer>3</answer>", "3"),
    ("<answer> </answer>", None),
    ("", None),
  ],
)
def test_tag(text, expected):
  assert extract.tag(text) == expected


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("It costs $1,234.50.", "1,234.50"),
    ("10-3=7", "7"),
    ("10-3", "3"),
    ("x = -3.", "-3"),
    ("−3", "−3"),
    ("a debt of -$5", "-$5"),
    ("3/4 of it", "3/4"),
    ("$18/day", "18"),
    ("2.5e3", "2.5e3"),
    (".5", ".5"),
    ("12 apples", "12"),
    ("it is 10^10^10", "10^10^10"),
    ("it is 10^{-3}", "10^{-3"),
    ("10**3", "10**3"),
    ("**5**", "5"),
    ("10²", "10²"),
    ("7 of H2", "7"),
    ("1,2,3", "1,2,3"),
    ("He has 1 234 apples", "1 234"),
    ("12\\,345.5", "12\\,345.5"),
    ("1'234", "1'234"),
    ("in 2024 100 people", "100"),
    ("It is 2 2/3", None),
    ("It is -2\u00a02/3", None),
    ("2-2/3 cups", None),
    ("2 and 2/3 cups", None),
    ("page 5, 2/3", "2/3"),
    ("it is $\\frac{2}{3}$", "\\frac{2}{3}"),
    ("it is $2\\frac{2}{3}$.", "2\\frac{2}{3}"),
    ("2½ cups", "2½"),
    ("٣", None),
    ("4 is not ٣4", "4"),
    ("4٣", "4٣"),
    ("none", None),
    ("", None),
  ],
)
def test_last_number(text, expected):
  assert extract.last_number(text) == expected


def test_any_takes_the_conventions_in_order():
  text = "1 <answer>2</answer> \\boxed{3} 5"
  assert extract.find_answer(text, AnswerStyle.ANY) == "3"
  assert extract.find_answer(text + "\nAnswer: 4", AnswerStyle.ANY) == "4"
  assert extract.find_answer("1 <answer>2</answer>", AnswerStyle.ANY) == "2"
  assert extract.find_answer("1", AnswerStyle.ANY) == "1"
  assert extract.find_answer(text, AnswerStyle.LAST_NUMBER) == "5"


@pytest.mark.parametrize(
  ("reference", "expected"),
  [
    ("16 - 3 = <<16-3=13>>13\n13 * 2 = $26\n#### 26", "26"),
    ("#### 1,234\n", "1,234"),
    ("We get $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
    (72, "72"),
    (0.1, "0.1"),
    (0, "0"),
    (" p - q ", "p - q"),
    ("We add, so \\boxed 7.", "7"),
    ("#### Step 1\nWe find \\fbox{7}.", "7"),
    ("We find \\boxed{7}.\n#### The end", "7"),
    ("It is 3 + 4.\n\n**Answer:** 7", "7"),
    ("<think>3 + 4</think> <answer>7</answer>", "7"),
    ("3 + 4 = 7\n#### Answer: 7", "7"),
    ("\\begin{pmatrix}\n1 \\\\ 2\n\\end{pmatrix}", "\\begin{pmatrix}\n1 \\\\ 2\n\\end{pmatrix}"),
  ],
)
def test_reference_answer(reference, expected):
  assert extract.reference_answer(reference) == expected


@pytest.mark.parametrize(
  "reference",
  [
    None,
    "",
    " \n",
    "worked\n####  ",
    "\\boxed{}",
    "\\boxed{1",
    True,
    [1],
    {},
    "#### Solution\nIt is 7.",
    "It is 7.\nSo.",
    "It is 7.\nAnswer:",
  ],
)
def test_reference_answer_refuses(reference):
  with pytest.raises(ValueError, match=r"reference answer .* expected"):
    extract.reference_answer(reference)


@pytest.mark.parametrize("style", list(AnswerStyle))
@pytest.mark.parametrize(
  "unit",
  [
    "{",
    "}",
    "\\boxed{",
    "\\",
    "<answer>",
    "</answer>",
    "1,",
    "1",
    "-",
    "^",
    "1^",
    "1e",
    "1٣",
    "Answer:",
    "a ",
    ".",
    "$",
  ],
)
def test_a_megabyte_of_anything_takes_under_a_second(unit, style):
  text = unit * (1_000_000 // len(unit))
  start = time.process_time()
  extract.find_answer(text, style)
  assert time.process_time() - start < 1.0


def test_the_window_of_the_answer_line_is_an_option():
  text = "Answer: 42\n" + "x" * 400
  assert extract.answer_line(text) is None
  assert extract.answer_line(text, window=500) == extract.answer_line(text, window=0) == "42"
  assert extract.find_answer(text, AnswerStyle.ANY, window=500) == "42"


@pytest.mark.parametrize("style", list(AnswerStyle))
def test_an_answer_is_found_where_it_is_stated(style):
  assert extract.find_answer(extract.stated("12", style), style) == "12"


@hypothesis.given(hostile_text)
def test_what_is_found_stands_in_the_text(text):
  for style in AnswerStyle:
    answer = extract.find_answer(text, style)
    assert answer is None or (answer and answer == answer.strip() and answer in text)


@hypothesis.given(hostile_text, st.integers(-(10**12), 10**12))
def test_whatever_comes_before_the_last_answer_does_not_matter(text, value):
  assert extract.answer_line(f"{text}\nAnswer: {value}") == str(value)
  assert extract.boxed(f"{text} \\boxed{{{value}}}") == str(value)
  assert extract.tag(f"{text}<answer>{value}</answer>") == str(value)
  assert extract.last_number(f"{text} is {value}") == str(value)
