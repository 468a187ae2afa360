import dataclasses

import pytest

from configs.recipes.costs import costs
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.prices import ChipPrice, CostSettings
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import stage

CHIP = ChipPrice(tflops=100.0, training_use=0.5, sampling_use=0.1, dollars_per_hour=2.0)


def test_hours_of_a_chip():
  # 50e12 FLOPs a second of updates and 10e12 of sampling: 3600 s of each.
  effort = Effort(training_flops=50e12 * 3600, sampling_flops=10e12 * 3600)
  assert CHIP.hours(effort) == pytest.approx(2.0)


def test_hours_of_people():
  settings = parse(CostSettings, costs())
  written = dataclasses.replace(stage("a"), labels="demonstration")
  assert settings.label_hours(written, Effort(examples=8)) == 8 * 15 / 60
  assert settings.label_hours(stage("a"), Effort(examples=8)) == 0
  with pytest.raises(
    InputError, match=r"stage a: labels 'x' have no price, expected one of costs.minutes: check, comp"
  ):
    settings.label_hours(dataclasses.replace(stage("a"), labels="x"), Effort())


@pytest.mark.parametrize(
  ("name", "value"), [("fill", 0.0), ("chips.h100.training_use", 1.5), ("chips.h100.tflops", 0.0)]
)
def test_a_price_list_out_of_range(name, value):
  config = costs()
  config.update_from_flattened_dict({name: value})
  with pytest.raises(InputError, match=name.rpartition(".")[2]):
    parse(CostSettings, config)
