import gzip
import json
import pathlib

import pytest

from posttrain_jax.rewards import extract, symbolic, verifiers

SHARED = pathlib.Path(__file__).resolve().parents[2].parent / "shared"
CASES = SHARED / "cases" / "answers.json"
GOOD = "<think>2 + 2</think> <answer>4</answer>"


def test_exact_answer_by_each_style():
  texts = ["Answer: 72", "\\boxed{72}", "<answer>72.0</answer>", "that makes 72 clips", ""]
  rows = [{"answer": "48/2 = 24\n#### 72"}] * 5
  score = lambda style: verifiers.exact_answer(texts, rows, style=style)  # noqa: E731
  assert score("answer_line") == [1, 0, 0, 0, 0]
  assert score("boxed") == [0, 1, 0, 0, 0]
  assert score("tag") == [0, 0, 1, 0, 0]
  assert score("last_number") == [1, 1, 1, 1, 0]
  assert score("any") == [1, 1, 1, 1, 0]


def test_exact_answer_compares_with_each_rows_own_reference():
  rows = [{"answer": 1}, {"answer": "2"}, {"answer": 3.5}]
  assert verifiers.exact_answer(["Answer: 1", "Answer: 1", "Answer: 7/2"], rows) == [1, 0, 1]


def test_exact_answer_options():
  rows = [{"final": "3"}] * 2
  assert verifiers.exact_answer(["Answer: 3", "Answer: 4"], rows, column="final", incorrect=-1.0) == [1, -1]
  with pytest.raises(ValueError, match="boxd"):
    verifiers.exact_answer([], [], style="boxd")


@pytest.mark.parametrize("row", [{}, {"answer": None}, {"answer": ""}, {"answer": "####"}])
def test_exact_answer_without_a_reference_raises(row):
  with pytest.raises(ValueError, match="reference answer"):
    verifiers.exact_answer(["Answer: "], [row])


def test_an_empty_answer_never_matches():
  assert verifiers.exact_answer(["", "Answer:", "Answer: $"], [{"answer": "."}] * 3) == [0, 0, 0]


def test_answer_line_format():
  assert verifiers.answer_line_format(["x\nAnswer: 4", "Answer:", "4", "Answer: 4\n" + "x" * 300], [{}] * 4) == [
    1,
    0,
    0,
    0,
  ]


@pytest.mark.parametrize(
  ("text", "reward"),
  [
    (GOOD, 1),
    (f"\n{GOOD}\n", 1),
    (f"so {GOOD}", 0),
    (f"{GOOD} so", 0),
    (GOOD + GOOD, 0),
    (GOOD.replace("</think> ", "</think> so "), 0),
    ("<answer>4</answer><think>2 + 2</think>", 0),
    ("<think><answer>4</answer></think>", 0),
    ("</think>a<think>b</answer>c<answer>", 0),
    ("<think>2 + 2<answer>4</answer>", 0),
    ("<think> </think><answer>4</answer>", 0),
    ("<think>2 + 2</think><answer></answer>", 0),
    (GOOD + "<think>", 0),
    (GOOD + "</answer>", 0),
    (GOOD.replace("2 + 2", "2 + <think>2</think>"), 0),
    (GOOD.replace("4", "<answer>4</answer>"), 0),
    (GOOD.replace("2 + 2", "2 + 2 <answer>4</answer>"), 0),
    (GOOD.replace("</answer>", ""), 0),
    (GOOD.replace("<answer>", "<Answer>"), 0),
    (GOOD.replace("<answer>", "< answer>"), 0),
    (GOOD + "\0", 0),
    ("<think>" * 100_000, 0),
    ("<think>2 < 3 <thinking> & \u202e</think><answer></answers></answer>", 1),  # other tags are text
    ("", 0),
  ],
)
def test_think_answer_format(text, reward):
  assert verifiers.think_answer_format([text], [{}]) == [reward]


def test_think_answer_format_with_the_first_tag_in_the_prompt():
  texts = [GOOD.removeprefix("<think>"), GOOD]
  assert verifiers.think_answer_format(texts, [{}] * 2, prompt_opens_think=True) == [1, 0]


def test_exact_answer_with_a_tolerance_and_another_window():
  row = {"answer": "100"}
  assert verifiers.exact_answer(["Answer: 99"], [row]) == [0]
  assert verifiers.exact_answer(["Answer: 99"], [row], tolerance=0.02) == [1]
  far = "Answer: 100" + "." * 400
  assert verifiers.exact_answer([far], [row]) == verifiers.answer_line_format([far], [row]) == [0]
  assert verifiers.answer_line_format([far], [row], window=500) == [1]


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/cases/answers.json")
@pytest.mark.parametrize("verifier", [verifiers.exact_answer, symbolic.math_equal])
def test_shared_cases(verifier):
  """Both verifiers: where the cases ask one of them, the other must agree."""
  pytest.importorskip("math_verify", reason="math-verify, an optional extra, is not installed")
  cases = json.loads(CASES.read_text("utf-8"))
  assert len(cases["answers"]) > 20
  for case in cases["answers"]:
    found = verifier([case["text"]], [{"answer": case["reference"]}], style=case["style"])
    assert found == [case["want"]], case
  for case in cases["references"]:
    assert extract.reference_answer(case["reference"]) == case["want"]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the data in ../shared/data")
@pytest.mark.parametrize("verifier", [verifiers.exact_answer, symbolic.math_equal])
def test_every_reference_of_real_data_is_right_by_its_own_verifier(verifier):
  pytest.importorskip("math_verify", reason="math-verify, an optional extra, is not installed")
  columns = {"gsm8k_test": "answer", "math500": "answer", "svamp": "final", "aime2024": "answer"}
  for name, column in columns.items():
    (path,) = (SHARED / "data").glob(f"{name}.jsonl*")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
      rows = [json.loads(line) for line in file]
    for style in ("answer_line", "boxed", "tag"):
      texts = [extract.stated(extract.reference_answer(row[column]), style) for row in rows]
      assert verifier(texts, rows, style=style, column=column) == [1.0] * len(rows), (name, style)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the GSM8K and MATH-500 files in ../shared/data")
def test_every_worked_solution_of_real_data_is_right_and_its_neighbour_mostly_wrong():
  for name, style in (("gsm8k_test", "any"), ("math500", "boxed")):
    with gzip.open(SHARED / "data" / f"{name}.jsonl.gz", "rt") as file:
      rows = [json.loads(line) for line in file]
    texts = [f"\\boxed{{{row.get('final', row['answer'])}}}" for row in rows]
    assert verifiers.exact_answer(texts, rows, style=style) == [1.0] * len(rows)
    assert sum(verifiers.exact_answer(texts[1:] + texts[:1], rows, style=style)) < 0.05 * len(rows)
