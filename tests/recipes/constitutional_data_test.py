import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.requests import HELD_OUT_HARMS, Novelty
from posttrain_jax.recipes import constitutional_data
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS


def rows(file):
  return [json.loads(line) for line in file.read_text().splitlines()]


def config(**fields):
  return ConfigDict({"world": vars(SETTINGS), "seed": 0, **fields})


def test_permuted_critiques_are_the_same_texts_in_other_places(tmp_path):
  written = []
  for permuted in (False, True):
    folder = tmp_path / str(permuted)
    folder.mkdir()
    found = constitutional_data.write_critic_data(config(repeats=1, documents=5, permuted=permuted), folder)
    written.append(rows(folder / "critic.jsonl"))
    assert found == {"examples": len(written[-1]), "plain": len(rows(folder / "plain.jsonl"))}
  good, broken = written
  assert sum(not row["prompt"] for row in good) == 5  # text of the corpus, whole and in its place
  assert [row["prompt"] for row in good] == [row["prompt"] for row in broken]
  assert sorted(row["completion"] for row in good) == sorted(row["completion"] for row in broken)
  assert sum(a != b for a, b in zip(good, broken)) > len(good) / 2


def test_the_red_team_has_both_halves_and_nothing_else_that_is_held_out(tmp_path):
  found = constitutional_data.write_red_team(config(limit=0), tmp_path)
  attacks, unseen = rows(tmp_path / "red_team.jsonl"), rows(tmp_path / "unseen.jsonl")
  assert found == {"red_team": len(attacks), "unseen": len(unseen)}
  assert {*HELD_OUT_HARMS} < {row["request"]["harm"] for row in attacks}
  assert {name for row in attacks for name in row["request"]["novel"]} == {Novelty.HARM.value}
  assert not {row["prompt"] for row in attacks} & {row["prompt"] for row in unseen}
  assert constitutional_data.write_red_team(config(limit=3), tmp_path) == {"red_team": 3, "unseen": 3}


def test_bad_input_and_estimates():
  with pytest.raises(InputError, match="repeats"):
    parse(constitutional_data.CriticDataSettings, config(repeats=0, documents=0, permuted=False))
  known = Forecast(0.5)
  assert constitutional_data.forecast_critic_data(config(repeats=2, documents=1), known).rows["critic.jsonl"] == 701
  assert constitutional_data.forecast_red_team(config(limit=5), known).rows == {"red_team.jsonl": 5, "unseen.jsonl": 5}
