"""Tests that probes find a biased model and clear a fair one."""

import dataclasses
import importlib
import json

import pytest

from configs import bias_probes as config_file
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.introductions import HARMLESS, HOMES, introduce, probes
from posttrain_jax.data.assistant_world.questions import RequestPart
from posttrain_jax.data.assistant_world.requests import TEMPLATE, RequestKind
from posttrain_jax.recipes import bias_probes, runners
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.measures import measures
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD
from tests.recipes.careful_engine import TOKENIZER
from tests.recipes.saved_model import save_model

ASKED = {
  TEMPLATE.format(prompt=introduce(request.text, home)): (request, home)
  for kind in (*HARMLESS, RequestKind.HARM)
  for request in probes(WORLD, kind, RequestPart.ALL, 10_000, seed=0)
  for home in HOMES
}


class HandMade:
  """Answers carefully, but refuses people from `refused`."""

  refused = ""

  def __init__(self, path, **sizes):
    self.longest, self.writer = sizes["max_prompt_length"], AnswerWriter(WORLD, 0)

  def draw(self, texts, attempt=0):
    assert max(len(TOKENIZER.encode_prompt(text)) for text in texts) <= self.longest
    return [self._answer(*ASKED[text]) for text in texts], 2 * len(texts)

  def _answer(self, request, home):
    if home == self.refused:
      return "sorry , i can not help with that ."
    return self.writer.answer(request, Author.CAREFUL)


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.setattr(bias_probes, "TextModel", HandMade)
  found = config_file.get_config()
  found.world = dataclasses.asdict(SETTINGS)
  found.update(requests=3, samples=2)
  found.model.path = str(tmp_path / "model")
  return found


def test_a_fair_model_has_no_difference(config, tmp_path):
  runners.PROBE.check(config)
  found = bias_probes.probe(config, tmp_path)
  assert found["probes/harmless_refused"] == found["probes/harmless_refused_largest"] == 0
  assert found["probes/harmless_right"] == 1 and found["probes/harmless_refused_p"] == 1
  assert found["probes/harm_refused"] == 1 and found["probes/harm_refused_found"] == 0
  assert all(found[f"probes/harmless_refused/{home}"] == 0 for home in HOMES)
  lines = [json.loads(line) for line in (tmp_path / bias_probes.PROBES).read_text().splitlines()]
  assert len(lines) == 6 * 3 * 10 * 2 and {line["home"] for line in lines} == {*HOMES}
  assert all(f"i live in the {line['home']} ." in line["prompt"] for line in lines)
  assert found["sampling/tokens_generated"] == 2 * len(lines)


def test_a_model_that_refuses_one_place_is_found(config, tmp_path, monkeypatch):
  monkeypatch.setattr(HandMade, "refused", "swamp")
  found = bias_probes.probe(config, tmp_path)
  assert found["probes/harmless_refused/swamp"] == found["probes/harmless_refused_largest_low"] == 1
  assert found["probes/harmless_refused_p"] < 0.01 and found["probes/harmless_refused_found"] == 1
  assert found["probes/harmless_right/swamp"] == -1 and found["probes/harmless_rated/swamp_high"] < 0
  assert found["probes/harm_refused_largest"] == 0  # harm is refused to everybody
  kept = json.loads((tmp_path / bias_probes.DIFFERENCES).read_text())
  assert kept["of"] == "probes" and kept["measures"]["harmless_refused_largest"] == [1, 1, 1]
  stage = Stage("probed", run=runners.PROBE, config=config, inputs={"model.path": str(tmp_path / "model")})
  assert measures([stage], {"probed": found})["base"]["probes/harmless_refused/swamp"].value == 1


def test_probes_are_estimated(config, tmp_path):
  save_model(tmp_path / "model", 0, tokenizer=TOKENIZER)
  found = bias_probes.forecast(config, Forecast(0.5))
  assert found.examples == 6 * 3 * 10 * 2 and found.generated == found.examples * 24 and found.sampling_flops > 0


def test_what_is_refused(config):
  config.model.path = ""
  with pytest.raises(InputError, match=r"model.path: empty"):
    bias_probes.check(config)
  config.homes = ("forest", "moon")
  with pytest.raises(InputError, match=r"homes: forest, moon, expected at least two of forest, river"):
    bias_probes.check(config)


def test_the_command(config, tmp_path, capsys):
  main = importlib.import_module("experiments.bias_probes").main
  with pytest.raises(InputError, match=r"model' does not exist"):
    main(config.lock(), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
  save_model(tmp_path / "model", 0, tokenizer=TOKENIZER)
  main(config.lock(), str(tmp_path / "run"))
  result = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert result["probes/harmless_refused_largest"] == 0 and (tmp_path / "run" / bias_probes.PROBES).exists()
