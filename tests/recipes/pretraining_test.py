import json

import pytest

from configs.recipes.costs import costs
from posttrain_jax.models import flops
from posttrain_jax.recipes import forecasts, pretraining
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError
from tests.data.token_files_test import prepared
from tests.pipelines.pretrain_test import TEXTS, config_for


@pytest.fixture
def config(tmp_path):
  config = config_for(prepared(tmp_path / "prepared", TEXTS))
  config.chips = costs().chips
  config.chips.here = dict(tflops=1e-3, training_use=0.5, sampling_use=0.5, dollars_per_hour=3.0)
  return config


def test_the_estimate_is_that_of_full_rows(config):
  found = forecasts.pretraining(config, Forecast(0.5))
  model = Forecast(0.5).policy(config.model).model
  first = flops.forward(model, tokens=1536, pairs=48 * 32 * 33 // 2, logits=1536)  # 6 steps of 8 rows of 32 tokens
  second = flops.forward(model, tokens=1536, pairs=24 * 64 * 65 // 2, logits=1536)
  assert (found.examples, found.trained, found.training_flops) == (len(TEXTS), 3072, 3 * (first + second))


def test_an_estimate_of_epochs(config):
  config.steps, config.epochs = 0, 2
  rows = sum(map(len, TEXTS)) * 0.8 / 32
  trained = forecasts.pretraining(config, Forecast(0.5)).trained
  assert trained == pytest.approx(2 * rows * 32 + 1536, rel=0.02)


def test_what_a_run_cost_stands_beside_the_estimate(config, tmp_path):
  told = pretraining.priced_pretraining(config, str(tmp_path / "run"))
  cost = told["cost"]
  assert json.loads((tmp_path / "run" / "cost.json").read_text("utf-8")) == cost
  estimated, actual = cost["estimated"], cost["actual"]
  assert estimated["here_hours"] == pytest.approx(estimated["flops"] / 0.5e9 / 3600)
  assert estimated["here_dollars"] == pytest.approx(3 * estimated["here_hours"])
  assert {"h100_hours", "v5e_dollars"} <= set(estimated)
  assert 0.9 * estimated["tokens"] < actual["tokens"] < estimated["tokens"]  # rows are not quite full of learned tokens
  assert actual["flops"] / actual["tokens"] == pytest.approx(estimated["flops"] / estimated["tokens"])
  assert actual["here_hours"] > 0


def test_a_config_without_prices_is_refused(config, tmp_path):
  del config.chips
  with pytest.raises(InputError, match="chips: missing"):
    pretraining.priced_pretraining(config, str(tmp_path / "run"))
  config.chips = costs().chips
  with pytest.raises(InputError, match="chips: found h100, v5e, v5p, expected here among them"):
    pretraining.priced_pretraining(config, str(tmp_path / "run"))
