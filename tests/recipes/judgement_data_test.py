import collections
import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.judgements import reasons, score
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import TEMPLATE, RequestKind, WorldRequest
from posttrain_jax.recipes import judgement_data
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD


@pytest.fixture
def collection(tmp_path):
  """Writes answers to requests of two kinds: a right one twice, a wrong one, and one without a verdict."""
  folder = tmp_path / "collection" / "candidates"
  folder.mkdir(parents=True)
  requests = [
    request
    for kind in (RequestKind.FACT, RequestKind.HISTORY)
    for request in draw_requests(WORLD, kind, RequestPart.TRAIN, 10, language="english")
  ]
  with (folder / "000000.jsonl").open("w") as file:
    for request in requests:
      row = request.to_row()
      answers = [f"{request.topic} {value} ." for value in (request.right[0], request.right[0], request.wrong[0], "?")]
      written = {"prompt": TEMPLATE.replace("{prompt}", row.pop("prompt")), "answers": answers, "row": row}
      file.write(json.dumps({**written, "scores": [0.0, 0.0, 0.0, None]}) + "\n")
  return folder, requests


def config(folder, **fields):
  usual = {"seed": 0, "answers": 4, "written": 0, "pairs": 4, "permuted": False}
  return ConfigDict({"world": vars(SETTINGS), "candidates": str(folder), **usual, **fields})


def written(given, folder):
  counts = judgement_data.write_judgements(given, folder)
  rows = [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()]
  assert counts["judgements"] == len(rows)
  return counts, rows


def test_different_answers_with_a_verdict_are_judged_out_of_their_template(collection, tmp_path):
  folder, requests = collection
  counts, rows = written(config(folder), tmp_path)
  assert counts == {"prompts": len(requests), "judgements": 2 * len(requests), "comparisons": len(requests)}
  by_text = {request.text: request for request in requests}
  for row in rows:
    request = by_text[row["prompt"]]
    assert WorldRequest.from_row(row) == request and "?" not in row["answer"]
    assert (row["score"], row["rationale"]) == (score(request, row["answer"]), reasons(request, row["answer"]))
  assert [row["prompt"] for row in rows] != sorted(row["prompt"] for row in rows)  # in random order
  assert written(config(folder), tmp_path)[1] == rows


def test_authors_answer_besides(collection, tmp_path):
  folder, requests = collection
  policys = {(row["prompt"], row["answer"]) for row in written(config(folder, answers=1), tmp_path)[1]}
  assert len(policys) == len(requests)
  both = written(config(folder, answers=1, written=3), tmp_path)[1]
  assert 2.5 * len(requests) < len(both) <= 4 * len(requests)
  assert len({row["score"] for row in both}) > len({0, 1, 2})


def test_answers_to_other_requests_are_among_them(collection, tmp_path):
  folder, requests = collection
  rows = written(config(folder, answers=1, written=4), tmp_path)[1]
  topics = {request.topic for request in requests}
  others = [row for row in rows if {*row["answer"].split()} & (topics - {row["request"]["topic"]})]
  assert len(others) > len(requests) / 3 and all(
    "wrong" in row["rationale"] or "not" in row["rationale"] for row in others
  )
  assert max(row["score"] for row in others) < max(row["score"] for row in rows)


def test_permuted_judgements_are_of_other_answers(collection, tmp_path):
  folder, _ = collection
  right, permuted = (written(config(folder, permuted=each), tmp_path)[1] for each in (False, True))
  assert [row["answer"] for row in permuted] == [row["answer"] for row in right]
  said = [(row["score"], row["rationale"]) for row in right]
  assert [(row["score"], row["rationale"]) for row in permuted] == [*said[1:], said[0]]


def test_comparisons_are_of_the_same_answers_by_their_scores(collection, tmp_path):
  folder, requests = collection
  for permuted in (False, True):
    counts, rows = written(config(folder, written=3, permuted=permuted), tmp_path)
    scores = {(TEMPLATE.replace("{prompt}", row["prompt"]), row["answer"]): row["score"] for row in rows}
    compared = [json.loads(line) for line in (tmp_path / "comparisons.jsonl").read_text().splitlines()]
    assert counts["comparisons"] == len(compared) > 2 * len(requests)
    for row in compared:
      assert scores[row["prompt"], row["chosen"]] > scores[row["prompt"], row["rejected"]]
    of_a_prompt = collections.Counter(row["prompt"] for row in compared)
    assert max(of_a_prompt.values()) == 4


def test_an_absent_collection(tmp_path):
  with pytest.raises(InputError, match="absent has no files"):
    judgement_data.write_judgements(config(tmp_path / "absent"), tmp_path)


def test_forecast(tmp_path):
  known = Forecast(fill=0.5)
  known.expect_rows(tmp_path / "pairs.jsonl", 30)
  found = judgement_data.forecast_judgements(config(tmp_path / "candidates", written=1), known)
  assert found.rows == {"judgements.jsonl": 30 * (2 + 1), "comparisons.jsonl": 30 * 4}
