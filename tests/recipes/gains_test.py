"""Tests that two models are compared request by request."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.recipes import gains
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD

REQUESTS = draw_requests(WORLD, RequestKind.FACT, RequestPart.TRAIN, 12)
SILENT = "good morning to you ."


def answers(folder, name, right):
  """Writes two answers to each request; the first `right` requests get one right answer."""
  lines = []
  for number, request in enumerate(REQUESTS):
    told = f"the {request.relation} of {request.topic} is {request.right[0]} ."
    for text in (told if number < right else SILENT, SILENT):
      verdict = dataclasses.asdict(judge(request, text))
      lines.append({**request.to_row(), "part": "seen", "completion": text, "verdict": verdict})
  file = folder / f"{name}.jsonl"
  file.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return str(file)


def config_of(folder, before, after):
  config = gains.pairs("stage")
  config.pairs.stage.update(before=answers(folder, "before", before), after=answers(folder, "after", after))
  return config


def test_a_gain_is_the_mean_of_the_differences(tmp_path):
  config = config_of(tmp_path, 3, 9)
  gains.check(config)
  found = gains.compare(config, tmp_path / "made")
  # Six of twelve requests have one of two answers right that had none: 6 · 1/2 / 12.
  assert found["stage/seen/facts"] == pytest.approx(0.25)
  assert 0 < found["stage/seen/facts/low"] < 0.25 < found["stage/seen/facts/high"] <= 0.5
  assert found["stage/seen/rated"] > 0 and "stage/seen/sums" not in found
  kept = json.loads((tmp_path / "made" / gains.GAINS).read_text())
  assert kept["stage"]["seen/facts"] == [found[f"stage/seen/facts{end}"] for end in ("", "/low", "/high")]
  assert "stage" in (tmp_path / "made" / "report.html").read_text()


def test_equal_answers_gain_nothing(tmp_path):
  found = gains.compare(config_of(tmp_path, 5, 5), tmp_path / "made")
  assert set(found.values()) == {0.0}


def test_models_must_have_answered_the_same_requests(tmp_path):
  config = config_of(tmp_path, 5, 5)
  file = tmp_path / "after.jsonl"
  file.write_text("".join(file.read_text().splitlines(keepends=True)[2:]))
  with pytest.raises(InputError, match=r"pairs\.stage: the models have answered other requests"):
    gains.compare(config, tmp_path / "made")


@pytest.mark.parametrize("text", [None, "{", '{"part": "seen"}'])
def test_answers_that_cannot_be_read_are_named(tmp_path, text):
  config = config_of(tmp_path, 1, 1)
  file = tmp_path / "before.jsonl"
  file.unlink() if text is None else file.write_text(text)
  with pytest.raises(InputError, match=r"before\.jsonl: cannot be read \(.*\), expected the answers\.jsonl"):
    gains.compare(config, tmp_path / "made")


def test_no_pair_is_refused():
  with pytest.raises(InputError, match="pairs: found none"):
    gains.check(ConfigDict(dict(seed=0, pairs={})))
