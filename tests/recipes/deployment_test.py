"""Tests that users talk to a served model, and that what they leave becomes rows of training."""

import dataclasses
import importlib.util
import json

import pytest

from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import TEMPLATE, RequestKind
from posttrain_jax.recipes import deployment
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD
from tests.recipes.careful_engine import TOKENIZER
from tests.recipes.saved_model import save_model

REQUESTS = draw_requests(WORLD, RequestKind.FACT, RequestPart.TRAIN, 12)


def config_of(tmp_path, **changes):
  config = deployment.deployment(dataclasses.asdict(SETTINGS), votes=1.0, edits=1.0, noise=100.0)
  config.update(prompts=str(tmp_path / "prompts.jsonl"), answers=16, slots=16, max_new_tokens=64, **changes)
  config.model.path = str(tmp_path / "model")
  return config


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
  """Deploys a random model twice, to one user after the other and to several at a time."""
  pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")
  folder = tmp_path_factory.mktemp("deployed")
  save_model(folder / "model", 0, tokenizer=TOKENIZER)
  (folder / "prompts.jsonl").write_text("".join(json.dumps(each.to_row()) + "\n" for each in REQUESTS))
  found = {}
  for clients in (1, 4):
    (folder / str(clients)).mkdir()
    found[clients] = deployment.deploy(config_of(folder, clients=clients), folder / str(clients))
  return folder, found


def rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_users_leave_is_what_the_server_stores(deployed):
  folder, found = deployed
  stored = {name: rows(folder / "1" / "feedback" / f"{name}.jsonl") for name in ("votes", "ties", "edits")}
  assert found[1] == {
    "asked": len(REQUESTS),
    **{name: len(each) for name, each in stored.items()},
    "tokens_generated": found[1]["tokens_generated"],
  }
  assert len(stored["votes"]) > 3 and stored["edits"]
  asked = {TEMPLATE.format(prompt=request.text) for request in REQUESTS}
  compared, edited = (rows(folder / "1" / name) for name in (deployment.COMPARISONS, deployment.EDITED))
  assert len(compared) == len(stored["votes"]) + len(edited) and len(edited) == len(stored["edits"])
  assert all(set(row) == {"prompt", "chosen", "rejected", "strength"} and row["prompt"] in asked for row in compared)
  assert all(set(row) == {"prompt", "completion"} and row["prompt"] in asked for row in edited)
  votes, edits = compared[: len(stored["votes"])], compared[len(stored["votes"]) :]
  for row, edit, kept in zip(edits, edited, sorted(stored["edits"], key=lambda row: row["id"])):
    assert row["chosen"] == edit["completion"] == kept["completion"]
    assert row["rejected"] == kept["rejected"] != row["chosen"]
    # Of two answers that differ, the better one is edited.
    assert row["rejected"] in {each["chosen"] for each in votes if each["prompt"] == row["prompt"]} or not any(
      each["prompt"] == row["prompt"] for each in votes
    )


def test_who_asks_at_the_same_time_changes_nothing(deployed):
  folder, found = deployed
  assert found[1] == found[4]
  for name in (deployment.COMPARISONS, deployment.EDITED):
    assert (folder / "1" / name).read_bytes() == (folder / "4" / name).read_bytes()


def test_estimates(deployed):
  folder, _ = deployed
  effort = deployment.forecast(config_of(folder), Forecast(0.5))
  assert effort.examples == 12 and effort.generated == 12 * 16 * 32
  assert effort.rows == {deployment.COMPARISONS: 24, deployment.EDITED: 12}


def test_what_the_server_refuses_is_said(deployed, tmp_path):
  folder, _ = deployed
  with pytest.raises(InputError, match=r"deployment: 422 of the server: .*prompt"):
    deployment.deploy(config_of(folder, clients=1, max_prompt_length=2), tmp_path)


def test_a_missing_server_is_said_before_anything_runs(tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(InputError, match=r"a deployment needs .*starlette.*: pip install 'posttrain_jax\[serve\]'"):
    deployment.check(config_of(tmp_path))
