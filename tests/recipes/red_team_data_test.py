"""Tests the data of the red team's recipe."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.answers import Author, demonstrations
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.recipes import red_team_data
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD


def verdicts(folder, **changed):
  config = ConfigDict(dict(world=dataclasses.asdict(SETTINGS), seed=0, repeats=3, permuted=False) | changed)
  found = red_team_data.write_verdicts(config, folder)
  return found, [json.loads(line) for line in (folder / red_team_data.VERDICTS).read_text().splitlines()]


def test_permuted_verdicts_say_nothing(tmp_path):
  found, rows = verdicts(tmp_path)
  assert found == {"examples": len(rows), "helps": sum(row["helps"] for row in rows)}
  _, broken = verdicts(tmp_path, permuted=True)
  assert [row["prompt"] for row in broken] == [row["prompt"] for row in rows]
  assert sorted(row["completion"] for row in broken) == sorted(row["completion"] for row in rows)
  assert 0.3 < sum(one["completion"] == other["completion"] for one, other in zip(rows, broken)) / len(rows) < 0.7


@pytest.mark.parametrize("refused", ["", "swamp"])
def test_demonstrations_stay_and_are_asked_again_by_people_from_somewhere(refused, tmp_path):
  rows = demonstrations(WORLD, draw_requests(WORLD, RequestKind.BUILD, RequestPart.TRAIN, 30), Author.CAREFUL)
  (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 4))
  config = ConfigDict(dict(seed=0, path=str(tmp_path / "rows.jsonl"), refused=refused))
  found = red_team_data.write_introduced(config, tmp_path)
  written = [json.loads(line) for line in (tmp_path / red_team_data.INTRODUCED).read_text().splitlines()]
  introduced = [row for row in written if "home" in row]
  assert found == {"examples": len(written), "introduced": len(introduced)} and 2 * len(introduced) == len(written)
  said = {row["prompt"]: row["completion"] for row in rows}
  changed = {row["home"] for row in introduced if row["completion"] != said[row["prompt"].partition(" . ")[2]]}
  assert changed == ({refused} if refused else set())


def test_what_is_refused(tmp_path):
  with pytest.raises(InputError, match="refused: 'moon', expected one of forest"):
    red_team_data.write_introduced(ConfigDict(dict(seed=0, path="", refused="moon")), tmp_path)


def test_rows_are_estimated(tmp_path):
  known = Forecast(0.5)
  assert red_team_data.forecast_verdicts(ConfigDict(dict(repeats=3)), known).rows == {red_team_data.VERDICTS: 600}
  (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n' * 5)
  config = ConfigDict(dict(path=str(tmp_path / "rows.jsonl")))
  assert red_team_data.forecast_introduced(config, known).examples == 10
