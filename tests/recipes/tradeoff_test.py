"""Tests trade-offs between two measures."""

import json

import pytest

from posttrain_jax.recipes import tradeoff
from posttrain_jax.types import InputError


def config_of(folder, points, **changes):
  config = tradeoff.of_models(*points, across="perplexity", up="refused", less_is_better=("perplexity",), lines={})
  for name, (across, up) in points.items():
    (folder / name).mkdir()
    row = {"step": 0} | {f"perplexity{end}": across for end in ("", "_low", "_high")}
    row |= {"refused": up, "refused_low": up - 0.1, "refused_high": up + 0.1}
    (folder / name / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    config.models[name].metrics = str(folder / name / "metrics.jsonl")
  config.update(changes)
  return config


def test_the_best_trade_offs(tmp_path):
  points = {"start": (2.0, 0.0), "tuned": (4.0, 0.9), "worse": (4.0, 0.8), "middle": (3.0, 0.5), "same": (3.0, 0.5)}
  config = config_of(tmp_path, points, lines={"from start": ("start", "middle", "tuned")})
  tradeoff.check(config)
  assert tradeoff.draw(config, tmp_path) == {
    "start/best": 1,
    "tuned/best": 1,
    "worse/best": 0,
    "middle/best": 1,
    "same/best": 1,
  }
  assert (tmp_path / tradeoff.PICTURE).stat().st_size > 1000
  kept = json.loads((tmp_path / tradeoff.TRADEOFF).read_text())
  assert kept["tuned"] == [[4.0, 4.0, 4.0], [0.9, 0.8, 1.0]]


def test_what_cannot_be_drawn_is_refused(tmp_path):
  config = config_of(tmp_path, {"start": (2.0, 0.0)}, across="loss", less_is_better=())
  with pytest.raises(InputError, match=r"metrics.jsonl: found no loss, expected one of: perplexity, refused"):
    tradeoff.draw(config, tmp_path)
  config.lines = {"all": ("start", "end")}
  with pytest.raises(InputError, match=r"lines.all: 'end' is no model, expected one of: start"):
    tradeoff.check(config)
  config.lines, config.less_is_better = {}, ("seen",)
  with pytest.raises(InputError, match=r"less_is_better: 'seen' is on no axis, expected loss or refused"):
    tradeoff.check(config)
  with pytest.raises(InputError, match=r"models: found none"):
    tradeoff.check(tradeoff.of_models(across="a", up="b", lines={}))
