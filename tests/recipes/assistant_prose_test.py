"""Tests that data for models of English are judged as those of the world's own models."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world import language, raters
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.recipes import assistant_data
from tests.data.assistant_world.small_world import SETTINGS, WORLD

KINDS = {kind.value: 6 for kind in RequestKind}


def made(write, folder, **fields):
  """Returns the rows that a stage of data writes."""
  folder.mkdir()
  config = dict(world=dataclasses.asdict(SETTINGS), seed=0, prose=True)
  write(ConfigDict({**config, **fields}), folder)
  return {file.name: [json.loads(line) for line in file.read_text().splitlines()] for file in folder.glob("*.jsonl")}


def spaced(text):
  return " ".join(language.split(text))


@pytest.mark.parametrize("author", ["careful", "crowd"])
def test_demonstrations_in_prose_are_judged_as_spaced_ones(tmp_path, author):
  (rows,) = made(
    assistant_data.write_demonstrations, tmp_path / "prose", kinds=KINDS, author=author, permuted=False
  ).values()
  assert {row["request"]["kind"] for row in rows} == {*KINDS}
  for row in rows:
    request = WorldRequest.from_row(row)
    assert row["prompt"][0].isupper() and " ?" not in row["prompt"] and " ." not in row["completion"]
    plain = dataclasses.replace(request, text=spaced(request.text))
    assert judge(request, row["completion"]) == judge(plain, spaced(row["completion"])), row
  known = [row for row in rows if row["request"]["kind"] != "unknown"]
  right = [judge(WorldRequest.from_row(row), row["completion"]).correct for row in known]
  assert (False in right) == (author == "crowd")


def test_a_model_of_english_is_asked_and_answered_in_english(tmp_path):
  (rows,) = made(assistant_data.write_prompts, tmp_path / "prose", kinds=KINDS, round=1).values()
  (every,) = made(assistant_data.write_prompts, tmp_path / "spaced", kinds=KINDS, round=1, prose=False).values()
  assert {row["request"]["language"] for row in rows} == {language.ENGLISH}
  assert {row["request"]["language"] for row in every} == {language.ENGLISH, language.VELAN}
  assert not any(language.shares(row["prompt"])[language.VELAN] for row in rows)
  (documents,) = made(assistant_data.write_documents, tmp_path / "documents", documents=60).values()
  assert 10 < len(documents) < 60 and not any(language.shares(row["text"])[language.VELAN] for row in documents)
  assert all(row["text"] == language.prose(spaced(row["text"])) for row in documents)


def test_people_edit_in_prose_and_answers_stay_as_they_are(tmp_path):
  folder, writer, lines = tmp_path / "candidates", AnswerWriter(WORLD, 0), []
  folder.mkdir()
  requests = draw_requests(WORLD, RequestKind.FACT, RequestPart.TRAIN, 20, language=language.ENGLISH)
  for request in requests:
    texts = [f"The {request.topic}?\n\nI *like* it .", language.prose(writer.answer(request, Author.BARE)), "No ."]
    row = {name: value for name, value in request.to_row().items() if name != "prompt"}
    messages = [{"role": "user", "content": language.prose(request.text)}]
    lines.append(json.dumps({"prompt": messages, "answers": texts, "scores": [0.0] * 3, "row": row}))
  (folder / "000000.jsonl").write_text("\n".join(lines))
  usual = dict(policies={"one": {"path": str(folder)}}, pairs=2, edits=1.0, round=1, shuffled=False, summaries=False)
  found = made(assistant_data.write_comparisons, tmp_path / "made", **usual)
  edited = [row for row in found["comparisons.jsonl"] if "edited" in row]
  assert edited and all(row["prompt"][0]["role"] == "user" for row in edited)
  assert all(row["edited"] == language.prose(spaced(row["edited"])) for row in edited)
  said = {text for row in found["comparisons.jsonl"] for text in (row["chosen"], row["rejected"])}
  assert any("\n\nI *like* it ." in text for text in said) and "No ." in said
  assert [row["completion"] for row in found["edited.jsonl"]] == [row["edited"] for row in edited]
  assert raters.compare(WorldRequest.from_row(edited[0]), (edited[0]["edited"], "No ."), _Sure())["strength"]


class _Sure:
  """Draws no noise."""

  def random(self):
    return 0.5
