import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.critiques import OTHER_HARMS
from posttrain_jax.data.assistant_world.requests import Novelty
from posttrain_jax.recipes import constitutional_data
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS
from tests.data.constitution_test import FILE


def rows(file):
  return [json.loads(line) for line in file.read_text().splitlines()]


def config(**fields):
  return ConfigDict({"world": vars(SETTINGS), "seed": 0, **fields})


def data(**fields):
  return config(constitution=str(FILE), repeats=1, pairs=1, exercises=5, copies=2, **fields)


def test_permuted_critiques_are_the_same_texts_in_other_places(tmp_path):
  written = []
  for permuted in (False, True):
    folder = tmp_path / str(permuted)
    folder.mkdir()
    found = constitutional_data.write_critic_data(data(permuted=permuted), folder)
    written.append({name: rows(folder / f"{name}.jsonl") for name in ("critic", "judge", "plain")})
    counts = {name: len(each) for name, each in written[-1].items()}
    assert found == {"examples": counts["critic"] + counts["judge"], **counts}
  good, broken = written
  assert good["plain"] == broken["plain"]
  for name in ("critic", "judge"):
    assert [row["prompt"] for row in good[name]] == [row["prompt"] for row in broken[name]]
    one, other = ([row["completion"] for row in each[name]] for each in written)
    assert sorted(one) == sorted(other)
    assert sum(a != b for a, b in zip(one, other)) > len(one) / 3


def test_the_red_team_has_both_halves_and_nothing_else_that_is_held_out(tmp_path):
  found = constitutional_data.write_red_team(config(limit=0), tmp_path)
  attacks, unseen = rows(tmp_path / "red_team.jsonl"), rows(tmp_path / "unseen.jsonl")
  assert found == {"red_team": len(attacks), "unseen": len(unseen)}
  assert {*OTHER_HARMS} < {row["request"]["harm"] for row in attacks}
  assert {name for row in attacks for name in row["request"]["novel"]} == {Novelty.HARM.value}
  assert not {row["prompt"] for row in attacks} & {row["prompt"] for row in unseen}
  assert constitutional_data.write_red_team(config(limit=3), tmp_path) == {"red_team": 3, "unseen": 3}


def test_bad_input_and_estimates():
  with pytest.raises(InputError, match="repeats"):
    parse(constitutional_data.CriticDataSettings, ConfigDict({**data(permuted=False), "repeats": 0}))
  known = Forecast(0.5)
  found = constitutional_data.forecast_critic_data(data(permuted=False), known)
  assert found.rows == {"critic.jsonl": 285, "judge.jsonl": 280, "plain.jsonl": 216}
  assert constitutional_data.forecast_red_team(config(limit=5), known).rows == {"red_team.jsonl": 5, "unseen.jsonl": 5}
