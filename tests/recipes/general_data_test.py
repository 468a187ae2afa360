"""Tests the two stages about general data: the null spaces, and how far logits moved."""

import json

import numpy as np
import pytest

from configs import tiny_sft
from posttrain_jax.learner import null_space
from posttrain_jax.learner.null_space import NullSpaceSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.recipes import general_data, runners
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model

TEXTS = ["1+2=3", "3*4=2", "5-6=9"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  folder = tmp_path_factory.mktemp("general")
  save_model(folder / "model", 0, num_layers=2)
  save_model(folder / "other", 1, num_layers=2)
  save_model(folder / "wide", 1, num_layers=2, mlp_dim=24)
  (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
  return folder


def search(place, **changes):
  config = general_data.search(limit=0, row_length=16, threshold=0.0)
  config.model.path, config.text.path = str(place / "model"), str(place / "text.jsonl")
  config.update(changes)
  return config


def test_null_spaces_are_found_and_written(place, tmp_path):
  config = search(place)
  runners.NULL_SPACE.check(config)
  assert runners.NULL_SPACE.forecast(config, Forecast(0.5)).sampling_flops > 0
  found = general_data.find_null_spaces(config, tmp_path)
  tokens = found.pop("tokens")
  assert len(TEXTS) * 3 <= tokens < 16  # fewer than the width
  spaces = null_space.load(str(tmp_path / general_data.NULL_SPACE))
  for name in ("input", "hidden"):
    for layer in range(2):
      rank = found.pop(f"layer_{layer}/{name}_rank")
      columns = spaces.moved[name][layer]
      columns = columns[:, np.any(columns, axis=0)]
      assert rank == 16 - columns.shape[1] == spaces.ranks[name][layer]
      np.testing.assert_allclose(columns.T @ columns, np.eye(columns.shape[1]), atol=1e-5)
  assert found == {"smallest_rank": min(each.min() for each in spaces.ranks.values())}


def test_a_higher_threshold_leaves_more_room(place, tmp_path):
  ranks = [general_data.find_null_spaces(search(place, threshold=t), tmp_path)["layer_1/hidden_rank"] for t in (0, 0.1)]
  assert ranks[0] < ranks[1]


def test_moved_logits(place, tmp_path):
  config = general_data.moves("general", "new", limit=2, row_length=16)
  config.model.path, config.reference = str(place / "other"), str(place / "model")
  for each in config.texts.values():
    each.path = str(place / "text.jsonl")
  runners.LOGIT_MOVES.check(config)
  assert runners.LOGIT_MOVES.forecast(config, Forecast(0.5)).sampling_flops > 0
  found = general_data.measure_moves(config, tmp_path)
  assert (
    found["general/largest"] == found["general/largest_high"] >= found["general/mean_high"] >= found["general/mean"]
  )
  assert found["general/mean"] > found["general/mean_low"] > 0
  config.model.path = str(place / "model")
  assert set(general_data.measure_moves(config, tmp_path).values()) == {0.0}
  config.model.path = str(place / "wide")
  with pytest.raises(InputError, match="reference: is a model of other sizes"):
    general_data.measure_moves(config, tmp_path)


def test_a_missing_column_and_a_wrong_threshold_are_refused(place, tmp_path):
  config = search(place)
  config.text.field = "words"
  with pytest.raises(InputError, match=r"text.jsonl:1: words is None, expected text"):
    general_data.find_null_spaces(config, tmp_path)
  with pytest.raises(InputError, match=r"threshold: 1.0, expected 0 or more and less than 1"):
    runners.NULL_SPACE.check(search(place, threshold=1.0))


def test_an_optimiser_takes_the_file():
  config = tiny_sft.get_config()
  assert parse(SFTSettings, config).optimizer.null_space is None
  with config.unlocked():
    config.optimizer.null_space = dict(path="null_space.npz", mlp_alone=True)
  expected = NullSpaceSettings(path="null_space.npz", mlp_alone=True)
  assert parse(SFTSettings, config).optimizer.null_space == expected
