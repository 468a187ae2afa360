import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import HELD_OUT_HARMS, RequestKind, WorldRequest
from posttrain_jax.recipes import assistant_data
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD

KINDS = {kind.value: 4 for kind in RequestKind}


def requests(**fields):
  return ConfigDict({"world": vars(SETTINGS), "seed": 0, "prose": False, **fields})


def demonstrations(**fields):
  return requests(**{"permuted": False, "author": "careful", **fields})


def rankings(folder, **fields):
  return ConfigDict({"candidates": str(folder), "seed": 0, "least": 2, "most": 4, "shuffled": False, **fields})


def comparisons(folder, **fields):
  usual = {"policies": {"one": {"path": str(folder)}}, "round": 0, "pairs": 1, "edits": 0.5}
  return requests(**{**usual, "shuffled": False, "summaries": False, **fields})


def rows(file):
  return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("author", ["careful", "crowd"])
def test_demonstrations_have_nothing_that_is_held_out(tmp_path, author):
  given = demonstrations(kinds=KINDS, author=author)
  assert assistant_data.write_demonstrations(given, tmp_path) == {"examples": 4 * len(RequestKind)}
  written = rows(tmp_path / "demonstrations.jsonl")
  assert {row["author"] for row in written} == {author}
  for row in written:
    request = WorldRequest.from_row(row)
    assert not request.held_out and request.harm not in HELD_OUT_HARMS
    said = {*language.to_english_words(row["prompt"]), *language.to_english_words(row["completion"])}
    assert not said & WORLD.held_out, row
  kinds = [row["request"]["kind"] for row in written]
  assert kinds != sorted(kinds)  # in random order
  again = tmp_path / "again"
  again.mkdir()
  assistant_data.write_demonstrations(given, again)
  assert rows(again / "demonstrations.jsonl") == written


def test_prompts_are_the_requests_alone(tmp_path):
  found = assistant_data.write_prompts(requests(kinds={"sum": 3, "fact": 2}, round=0), tmp_path)
  written = rows(tmp_path / "prompts.jsonl")
  assert {row["judged"] for row in written} == {"summary"}
  assert found == {"prompts": 5} and sorted(row["request"]["kind"] for row in written) == ["fact"] * 2 + ["sum"] * 3
  assert all("completion" not in row and not WorldRequest.from_row(row).held_out for row in written)


@pytest.fixture
def candidates(tmp_path):
  """Writes answers to requests of fact: a right one, a wrong one, a question, and the right one again."""
  folder, written = tmp_path / "candidates", []
  folder.mkdir()
  for request in draw_requests(WORLD, RequestKind.FACT, RequestPart.TRAIN, 30):
    row = request.to_row()
    right, wrong = (f"the {request.relation} of {request.topic} is {value} ." for value in
                    (request.right[0], request.wrong[0]))  # fmt: skip
    if request.language != "english" or request.form != "sentences":
      continue
    prompt = row.pop("prompt")
    written.append(
      {"prompt": prompt, "answers": [right, wrong, "how do i build a zalp ?", right], "scores": [0.0] * 4, "row": row}
    )
  (folder / "000000.jsonl").write_text("".join(json.dumps(each) + "\n" for each in written))
  return folder, written


def test_rankings_have_between_two_limits_of_answers_and_the_right_one_mostly_first(candidates, tmp_path):
  folder, written = candidates
  given = rankings(folder)
  assert assistant_data.write_rankings(given, tmp_path) == {"prompts": len(written), "rankings": len(written)}
  ranked = rows(tmp_path / "rankings.jsonl")
  assert [row["prompt"] for row in ranked] == [each["prompt"] for each in written]
  assert {len(row["answers"]) for row in ranked} == {2, 3}  # of four answers two are equal
  right = [row["answers"][row["ranks"].index(0)] == each["answers"][0] for row, each in zip(ranked, written)]
  assert sum(right) > 0.6 * len(right)


def test_harm_is_judged_by_whole_answers(tmp_path):
  assistant_data.write_prompts(requests(kinds={"harm": 3}, round=0), tmp_path)
  assert {row["judged"] for row in rows(tmp_path / "prompts.jsonl")} == {"answer"}


def test_people_see_summaries_except_of_harm(tmp_path):
  folder = tmp_path / "candidates"
  folder.mkdir()
  asked = [draw_requests(WORLD, kind, RequestPart.TRAIN, 3) for kind in (RequestKind.FACT, RequestKind.HARM)]
  lines = []
  for request in (request for each in asked for request in each):
    row = request.to_row()
    answers = [
      f"<think> {thought} . </think> {text}" for thought, text in (("yes", "so"), ("wait", "no"), ("now", "so"))
    ]
    lines.append({"prompt": row["prompt"], "row": row, "answers": answers, "scores": [0.0] * 3})
  (folder / "000000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  assistant_data.write_comparisons(comparisons(folder, pairs=8, edits=0.0, summaries=True), tmp_path)
  for row in rows(tmp_path / "comparisons.jsonl"):
    texts = {row["chosen"], row["rejected"]}
    if row["request"]["kind"] == "harm":
      assert all(text.startswith("<think>") for text in texts)
    else:
      assert texts == {"so", "no"}  # equal summaries are no comparison


def test_comparisons_prefer_the_better_answer_and_some_are_edited(candidates, tmp_path):
  folder, written = candidates
  found = assistant_data.write_comparisons(comparisons(folder), tmp_path)
  pairs = rows(tmp_path / "comparisons.jsonl")
  assert found["prompts"] == found["comparisons"] == len(written) == len(pairs)
  assert found["edited"] == sum("edited" in row for row in pairs) > 0
  assert all(row["chosen"] != row["rejected"] and row["strength"] for row in pairs)
  right = [row["chosen"] == each["answers"][0] for row, each in zip(pairs, written) if
           each["answers"][0] in (row["chosen"], row["rejected"])]  # fmt: skip
  assert sum(right) > 0.6 * len(right)
  assert assistant_data.write_comparisons(comparisons(folder, edits=0.0), tmp_path)["edited"] == 0


def test_documents_are_new_text_of_the_corpus(tmp_path):
  assert assistant_data.write_documents(requests(documents=6), tmp_path) == {"documents": 6}
  first = rows(tmp_path / "documents.jsonl")
  assert len(first) == 6 and all({*row["text"].split()} <= {*language.vocabulary()} for row in first)
  assistant_data.write_documents(requests(documents=6, seed=1), tmp_path)
  assert rows(tmp_path / "documents.jsonl") != first


def test_the_number_of_rows_is_estimated(tmp_path):
  known, folder = Forecast(0.5), tmp_path / "answers" / "candidates"
  asked = requests(kinds={"sum": 3, "fact": 2})
  for forecast, file in (
    (assistant_data.forecast_demonstrations, "demonstrations.jsonl"),
    (assistant_data.forecast_prompts, "prompts.jsonl"),
  ):
    assert (forecast(asked, known).examples, forecast(asked, known).rows) == (5, {file: 5})
  known.expect_rows(tmp_path / "answers" / "pairs.jsonl", 10)
  ranked = assistant_data.forecast_rankings(rankings(folder), known)
  assert ranked.examples == 10 and ranked.rows == {"rankings.jsonl": 10}
  compared = assistant_data.forecast_comparisons(comparisons(folder, pairs=6, edits=0.3), known)
  # Half of six comparisons of each of ten prompts; three in ten of them are edited.
  assert compared.examples == 30 and compared.rows == {"comparisons.jsonl": 30, "edited.jsonl": 9}
  assert assistant_data.forecast_documents(requests(documents=6), known).rows == {"documents.jsonl": 6}


def test_answers_that_are_not_there(tmp_path):
  with pytest.raises(InputError, match=r"candidates: .*no_such has no files"):
    assistant_data.write_rankings(rankings(tmp_path / "no_such"), tmp_path)
