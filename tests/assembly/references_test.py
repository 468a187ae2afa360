import gzip
import json
import pathlib

import pytest
from absl import logging

from posttrain_jax.assembly import references
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers
from posttrain_jax.types import InputError, Prompt

DATA = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data"
EXACT = "posttrain_jax.rewards.verifiers:exact_answer"
ALGEBRA = "posttrain_jax.rewards.symbolic:math_equal"


def brevity(texts, rows):
  del rows
  return [-len(text) for text in texts]


def prompts(*rows):
  return [Prompt(i, (1,), row, source=f"sums.jsonl:{i + 1}") for i, row in enumerate(rows)]


def check(rows, *functions, **options):
  with RewardWorkers(functions or [RewardFunction(EXACT)], workers=0) as workers:
    references.check_references(workers, prompts(*rows), **options)


GOOD = [
  {"answer": "3"},
  {"answer": 4.5},
  {"answer": "so\n#### 1,250"},
  {"answer": "Hence \\boxed{\\frac{3}{4}}, as wanted."},
]


@pytest.mark.parametrize("path", [EXACT, ALGEBRA])
@pytest.mark.parametrize("style", ["answer_line", "boxed", "tag", "any"])
def test_good_references(path, style):
  if path == ALGEBRA:
    pytest.importorskip("math_verify", reason="math-verify, an optional extra, is not installed")
  check(GOOD, RewardFunction(path, options={"style": style, "incorrect": -1}))


@pytest.mark.parametrize("answer", ["", None, True, [1], " ", "#### Solution\nIt is 7.", "It is 7.\nSo."])
def test_references_that_cannot_be_read_are_refused_with_their_row(answer):
  with pytest.raises(InputError, match=r"^sums\.jsonl:5: column 'answer'") as error:
    check([*GOOD, {"answer": answer}, {"answer": None}])
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("answer", "style"),
  [("Evelyn", "last_number"), ("2 2/3", "last_number"), ("{", "boxed"), ("a</answer>b", "tag"), ("x}y", "boxed")],
)
def test_references_that_their_verifier_reads_differently_are_refused(answer, style):
  message = rf"^sums\.jsonl:2: column 'final': the reference .* exact_answer does not grade it right.*style {style}"
  with pytest.raises(InputError, match=message):
    check([{"final": "3"}, {"final": answer}], RewardFunction(EXACT, options={"style": style, "column": "final"}))


def test_every_verifier_is_asked_about_its_own_column_and_other_functions_about_none():
  functions = [RewardFunction(f"{__name__}:brevity"), RewardFunction(EXACT, options={"column": "final"})]
  check([{"prompt": "p", "final": "3"}], *functions)
  check([{"prompt": "p"}], functions[0])
  with pytest.raises(InputError, match=r"sums.jsonl:1: no column 'final'"):
    check([{"answer": "3"}], *functions)


def test_prompts_without_a_reference_are_fine_where_a_model_judges():
  check([{"prompt": "p"}, {"answer": ""}, {"answer": "3"}], required=False)
  with pytest.raises(InputError, match=r"sums\.jsonl:2"):
    check([{"prompt": "p"}, {"answer": "#### "}], required=False)


def test_whole_sentences_are_said(monkeypatch):
  lines = []
  monkeypatch.setattr(logging, "warning", lambda message, *args: lines.append(message % args))
  check([{"answer": "3"}, {"answer": "The two halves of the rope add up, and so the answer must be two in all"}])
  assert len(lines) == 1 and lines[0].startswith("sums.jsonl:2: the reference 'The two halves")
  check(GOOD)
  assert len(lines) == 1
  check([{"answer": "3"}, {"answer": "The answer is 5."}])
  assert len(lines) == 2 and lines[1].startswith("sums.jsonl:2: the reference 'The answer is 5.' is a sentence")


@pytest.mark.skipif(not DATA.exists(), reason="needs the data in ../shared/data")
def test_real_data():
  with gzip.open(DATA / "math500.jsonl.gz", "rt") as file:
    rows = [json.loads(line) for line in file]
  check(rows, RewardFunction(EXACT, options={"style": "boxed"}))
  check(rows, RewardFunction(EXACT))
