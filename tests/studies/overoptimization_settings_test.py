import pytest

from configs import tiny_overoptimization
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.studies.overoptimization_settings import OveroptimizationSettings
from posttrain_jax.types import InputError


def test_the_config_is_read_whole():
  config = tiny_overoptimization.get_config()
  found = parse(OveroptimizationSettings, config)
  assert found.proxy.sizes == (30, 300, 3000) and found.best_of_n.n[-1] == 256
  assert as_config(found)["pairs"] == {"noise": 0.25}


def test_a_decaying_rate_of_the_proxies_needs_an_end():
  config = tiny_overoptimization.get_config()
  config.proxy.optimizer.decay_updates = 0
  with pytest.raises(InputError, match=r"optimizer\.decay_updates: 0"):
    parse(OveroptimizationSettings, config)
