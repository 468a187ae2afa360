import json
import pathlib

import pytest

from configs import assistant_base as config_file
from posttrain_jax.pipelines import assistant_base
from posttrain_jax.pipelines.assistant_base import BaseSettings, build, check_pass
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

BASE = parse(BaseSettings, config_file.get_config().base, "base")
MEASURES = {"seen/sums_pass@8": 0.3, "held_out/sums_pass@8": 0.3}


@pytest.mark.parametrize(("found", "fits"), [(0.05, False), (0.1, True), (0.3, True), (0.5, True), (0.6, False)])
def test_a_base_model_out_of_bounds_is_refused(found, fits):
  for part in ("seen", "held_out"):
    measures = {**MEASURES, f"{part}/sums_pass@8": found}
    if fits:
      check_pass(measures, BASE)
      continue
    with pytest.raises(InputError, match=rf"base: {part}/sums_pass@8 is {found:.3f}, expected 0.1 to 0.5 before any"):
      check_pass(measures, BASE)


def test_a_base_model_is_made_once(tmp_path, monkeypatch):
  monkeypatch.setenv("POSTTRAIN_JAX_WARMUPS", str(tmp_path / "cache"))
  calls = []

  def train(config, workdir):
    calls.append(("train", workdir))
    pathlib.Path(workdir).mkdir(exist_ok=True)

  monkeypatch.setattr(assistant_base.sft, "train", train)
  monkeypatch.setattr(assistant_base, "_measure", lambda *args: calls.append("measure") or MEASURES)
  first, second, third = (str(tmp_path / name) for name in "abc")
  config = config_file.get_config().lock()  # as flags give it
  assert build(config, first) == MEASURES
  assert calls == [("train", first), "measure"] and "base" in config  # the caller's config stays
  assert build(config, second) == MEASURES
  assert calls[2:] == [("train", second)]  # the measures came with the kept model, and training has no step left
  source = json.loads((tmp_path / "b" / "source.json").read_text())
  assert source["made_in"] == first
  config.steps = 7  # another model
  build(config, third)
  assert calls[3:] == [("train", third), "measure"]


def test_a_base_model_that_does_not_fit_is_not_kept(tmp_path, monkeypatch):
  monkeypatch.setenv("POSTTRAIN_JAX_WARMUPS", str(tmp_path / "cache"))
  monkeypatch.setattr(assistant_base.sft, "train", lambda config, workdir: pathlib.Path(workdir).mkdir())
  monkeypatch.setattr(assistant_base, "_measure", lambda *args: {**MEASURES, "seen/sums_pass@8": 0.9})
  with pytest.raises(InputError, match=r"expected 0\.1 to 0\.5"):
    build(config_file.get_config(), str(tmp_path / "a"))
  assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("base.requests", 0, r"base.requests: 0, expected at least 1"),
    ("base.plain", 1, r"base.plain: 1, expected at least 2"),
    ("base.lowest_pass", 0.6, r"base.lowest_pass: 0.6 to base.highest_pass: 0.5, expected 0 ≤ lowest_pass"),
    ("base.highest_pass", 1.5, r"base.highest_pass: 1.5, expected 0 ≤ lowest_pass"),
    ("base.no_such", 1, r"base.no_such: unknown"),
    ("base", None, r"base: missing, expected"),
    ("demonstrations.corpus", None, r"demonstrations.corpus: missing, expected"),
    ("demonstrations.corpus.world.animals", 5, r"world.animals: 5, expected a number from 10"),
    ("demonstrations.corpus.documents", 0, r"demonstrations.corpus.documents: 0, expected at least 1"),
  ],
)
def test_bad_input_is_found_before_anything_is_written(name, value, message, tmp_path):
  config = config_file.get_config()
  if value is None:
    *groups, last = name.split(".")
    section = config
    for group in groups:
      section = section[group]
    del section[last]
  else:
    with config.unlocked():
      config.update_from_flattened_dict({name: value})
  with pytest.raises(InputError, match=message):
    build(config, str(tmp_path / "base"))
  assert not (tmp_path / "base").exists()


@pytest.mark.slow
def test_a_tiny_base_model_is_trained_and_measured(tmp_path):
  config = config_file.get_config()
  config.steps, config.optimizer.warmup_updates, config.optimizer.decay_updates = 3, 1, 3
  config.demonstrations.corpus.documents = 300
  config.model.num_layers = config.model.unroll = 1
  config.base.update(requests=1, sums=1, samples=2, plain=2, max_new_tokens=4, lowest_pass=0.0, highest_pass=1.0)
  found = build(config, str(tmp_path / "base"))
  assert found == json.loads((tmp_path / "base" / "base.json").read_text())
  assert {"perplexity", "known_seen", "seen/asks_on", "held_out/facts"} <= found.keys()
  assert build(config, str(tmp_path / "base")) == found  # goes on with what there is
