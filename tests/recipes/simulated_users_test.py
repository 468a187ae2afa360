"""Tests what simulated users leave."""

import dataclasses
import json

import pytest

from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.taste import OTHER_TASTE, utility
from posttrain_jax.recipes import simulated_users
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD

REQUESTS = draw_requests(WORLD, RequestKind.FACT, RequestPart.TRAIN, 60)


@pytest.fixture
def candidates(tmp_path):
  writer, lines = AnswerWriter(WORLD, 0), []
  for request in REQUESTS:
    row = {name: value for name, value in request.to_row().items() if name != "prompt"}
    answers = [writer.answer(request, Author.CAREFUL), writer.wrong(request)]
    lines.append(json.dumps({"prompt": request.text, "answers": answers, "scores": [0.0, 0.0], "row": row}))
  (tmp_path / "candidates").mkdir()
  (tmp_path / "candidates" / "0.jsonl").write_text("\n".join(lines) + "\n")
  return tmp_path / "candidates"


def left(candidates, folder, **changes):
  config = simulated_users.users(dataclasses.asdict(SETTINGS), votes=1.0, edits=0.0, noise=0.0)
  config.update(candidates=str(candidates), **changes)
  simulated_users.check(config)
  found = simulated_users.talk(config, folder)
  read = [
    [json.loads(line) for line in (folder / name).read_text().splitlines()]
    for name in ("comparisons.jsonl", "edited.jsonl")
  ]
  return found, *read


def test_votes_follow_the_users_taste(candidates, tmp_path):
  found, votes, edited = left(candidates, tmp_path)
  assert found == {"asked": 60, "votes": 60, "edits": 0} and edited == []
  for request, row in zip(REQUESTS, votes):
    assert utility(request, row["chosen"], OTHER_TASTE) >= utility(request, row["rejected"], OTHER_TASTE)
    assert row["prompt"] == request.text and row["strength"]


def test_some_vote_and_some_edit(candidates, tmp_path):
  found, votes, edited = left(candidates, tmp_path, votes=0.5, edits=0.5)
  assert 15 < found["votes"] < 45 and len(votes) == found["votes"]
  assert len(edited) == found["edits"] < found["votes"]
  for row in edited:
    assert row["completion"] and not {"chosen", "rejected", "edited", "strength"} & row.keys()


def test_noise_makes_them_err(candidates, tmp_path):
  assert left(candidates, tmp_path)[1] == left(candidates, tmp_path)[1]
  assert left(candidates, tmp_path, noise=100.0)[1] != left(candidates, tmp_path)[1]


def test_what_is_refused():
  config = simulated_users.users(dataclasses.asdict(SETTINGS), votes=1.5, edits=0.0, noise=1.0)
  with pytest.raises(InputError, match=r"votes: 1.5, expected a share from 0 to 1"):
    simulated_users.check(config)
  config.update(votes=1.0, noise=-1.0)
  with pytest.raises(InputError, match=r"noise: -1.0, expected 0 or more"):
    simulated_users.check(config)
