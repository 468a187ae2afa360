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


def config(**fields):
  usual = {"world": vars(SETTINGS), "seed": 0, "round": 0, "permuted": False, "shuffled": False, "prose": False}
  return ConfigDict({**usual, **fields})


def rows(file):
  return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("author", ["careful", "crowd"])
def test_demonstrations_have_nothing_that_is_held_out(tmp_path, author):
  given = config(kinds=KINDS, author=author)
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
  found = assistant_data.write_prompts(config(kinds={"sum": 3, "fact": 2}), tmp_path)
  written = rows(tmp_path / "prompts.jsonl")
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
  given = config(candidates=str(folder), least=2, most=4)
  assert assistant_data.write_rankings(given, tmp_path) == {"prompts": len(written), "rankings": len(written)}
  ranked = rows(tmp_path / "rankings.jsonl")
  assert [row["prompt"] for row in ranked] == [each["prompt"] for each in written]
  assert {len(row["answers"]) for row in ranked} == {2, 3}  # of four answers two are equal
  right = [row["answers"][row["ranks"].index(0)] == each["answers"][0] for row, each in zip(ranked, written)]
  assert sum(right) > 0.6 * len(right)


def test_comparisons_prefer_the_better_answer_and_some_are_edited(candidates, tmp_path):
  folder, written = candidates
  found = assistant_data.write_comparisons(
    config(candidates=str(folder), policies={"one": {"path": str(folder)}}, pairs=1, edits=0.5), tmp_path
  )
  pairs = rows(tmp_path / "comparisons.jsonl")
  assert found["prompts"] == found["comparisons"] == len(written) == len(pairs)
  assert found["edited"] == sum("edited" in row for row in pairs) > 0
  assert all(row["chosen"] != row["rejected"] and row["strength"] for row in pairs)
  right = [row["chosen"] == each["answers"][0] for row, each in zip(pairs, written) if
           each["answers"][0] in (row["chosen"], row["rejected"])]  # fmt: skip
  assert sum(right) > 0.6 * len(right)
  none = assistant_data.write_comparisons(
    config(candidates=str(folder), policies={"one": {"path": str(folder)}}, pairs=1, edits=0.0), tmp_path
  )
  assert none["edited"] == 0


def test_documents_are_new_text_of_the_corpus(tmp_path):
  assert assistant_data.write_documents(config(documents=6), tmp_path) == {"documents": 6}
  first = rows(tmp_path / "documents.jsonl")
  assert len(first) == 6 and all({*row["text"].split()} <= {*language.vocabulary()} for row in first)
  assistant_data.write_documents(config(documents=6, seed=1), tmp_path)
  assert rows(tmp_path / "documents.jsonl") != first


def test_the_number_of_rows_is_estimated(tmp_path):
  known = Forecast(0.5)
  drawn = assistant_data.forecast_requests(config(kinds={"sum": 3, "fact": 2}), known)
  assert drawn.examples == 5 and drawn.rows == {"demonstrations.jsonl": 5, "prompts.jsonl": 5}
  known.expect_rows(tmp_path / "answers" / "pairs.jsonl", 7)
  rated = assistant_data.forecast_ratings(config(candidates=str(tmp_path / "answers" / "candidates")), known)
  assert rated.examples == 7 and rated.rows == {"rankings.jsonl": 7, "comparisons.jsonl": 7}
  assert assistant_data.forecast_documents(config(documents=6), known).rows == {"documents.jsonl": 6}
  policies = {"one": {"path": str(tmp_path / "answers" / "candidates")}}
  compared = assistant_data.forecast_comparisons(config(policies=policies, edits=0.3), known)
  assert compared.rows == {"comparisons.jsonl": 7, "edited.jsonl": 2}


def test_bad_input(tmp_path):
  with pytest.raises(InputError, match=r"kinds.poem: unknown, expected some of fact, unknown"):
    assistant_data.write_prompts(config(kinds={"poem": 1}), tmp_path)
  with pytest.raises(InputError, match=r"prompts.jsonl: no row is left"):
    assistant_data.write_prompts(config(kinds={}), tmp_path)
  with pytest.raises(InputError, match=r"author: 'poet', expected one of careful"):
    assistant_data.write_demonstrations(config(kinds={"sum": 1}, author="poet"), tmp_path)
  with pytest.raises(InputError, match=r"candidates: .*no_such has no files"):
    assistant_data.write_rankings(config(candidates=str(tmp_path / "no_such"), least=2, most=4), tmp_path)
  with pytest.raises(InputError, match=r"least: 1 to most: 4, expected at least 2 answers"):
    assistant_data.write_rankings(config(candidates=str(tmp_path), least=1, most=4), tmp_path)
