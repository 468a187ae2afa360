"""Tests that a rater of the world compares two models' answers to the same requests."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.recipes import comparison
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD

PARTS = {
  part: draw_requests(WORLD, RequestKind.FACT, asked, 8)
  for part, asked in (("seen", RequestPart.TRAIN), ("held_out", RequestPart.HELD_OUT))
}
SILENT = "good morning to you ."


def answers(folder, name, right):
  """Writes two answers to each request; those of the parts in `right` are right."""
  lines = []
  for part, requests in PARTS.items():
    for request in requests:
      told = f"the {request.relation} of {request.topic} is {request.right[0]} ."
      text = told if part in right else SILENT
      verdict = dataclasses.asdict(judge(request, text))
      lines += [{**request.to_row(), "part": part, "completion": text, "verdict": verdict}] * 2
  file = folder / f"{name}.jsonl"
  file.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return str(file)


def config_of(folder, ours, theirs):
  config = comparison.pairs("new_over_old")
  config.pairs.new_over_old.update(ours=answers(folder, "ours", ours), theirs=answers(folder, "theirs", theirs))
  return config


def test_the_rater_prefers_what_is_right(tmp_path):
  config = config_of(tmp_path, {"seen"}, {"held_out"})
  comparison.check(config)
  found = comparison.compare(config, tmp_path / "made")
  assert found["new_over_old/seen/win_rate"] > 0.9 > 0.1 > found["new_over_old/held_out/win_rate"]
  assert found["new_over_old/all/win_rate"] == pytest.approx(0.5, abs=0.05)
  assert found["new_over_old/seen/win_rate/low"] > 0.8 and found["new_over_old/seen/first_place"] == 0.5
  kept = json.loads((tmp_path / "made" / comparison.COMPARISON).read_text())
  assert kept["new_over_old"]["seen/win"][0] == found["new_over_old/seen/win"]
  assert "new_over_old" in (tmp_path / "made" / "report.html").read_text()


def test_equal_answers_are_ties(tmp_path):
  found = comparison.compare(config_of(tmp_path, {"seen"}, {"seen"}), tmp_path / "made")
  assert found["new_over_old/all/tie"] == 1.0 and found["new_over_old/all/win_rate"] == 0.5


def test_the_rater_sees_each_pair_once_for_its_part_and_for_all(tmp_path, monkeypatch):
  seen = []

  def by_chance(request, answers, rng):
    seen.append(answers)
    return {"chosen": answers[rng.randrange(2)]}

  monkeypatch.setattr(comparison.raters, "compare", by_chance)
  found = comparison.compare(config_of(tmp_path, {"seen"}, {"held_out"}), tmp_path / "made")
  count = {part: len(requests) for part, requests in PARTS.items()}
  assert len(seen) == 2 * 2 * sum(count.values())  # two answers to each request, in both orders
  for measure in ("win", "tie", "loss", "win_rate", "first_place", "shorter_by"):
    summed = sum(count[part] * found[f"new_over_old/{part}/{measure}"] for part in PARTS)
    assert found[f"new_over_old/all/{measure}"] == pytest.approx(summed / sum(count.values()))


def test_a_rater_draws_its_noise_anew_for_each_order():
  request = PARTS["seen"][0]
  alike = [(request, "good morning to you .", "thanks for the help .")] * 40  # equally useless
  judge_of_pairs = comparison.rater_judge(0)
  straight = judge_of_pairs(alike)
  assert judge_of_pairs(alike) != straight and 0 < sum(straight) < 40
  assert comparison.rater_judge(0)(alike) == straight


def test_models_must_have_answered_the_same_requests(tmp_path):
  config = config_of(tmp_path, {"seen"}, {"seen"})
  file = tmp_path / "theirs.jsonl"
  file.write_text("".join(file.read_text().splitlines(keepends=True)[2:]))
  with pytest.raises(InputError, match=r"pairs\.new_over_old: the models have answered other requests"):
    comparison.compare(config, tmp_path / "made")


def test_no_pair_is_refused():
  with pytest.raises(InputError, match="pairs: found none"):
    comparison.check(ConfigDict(dict(seed=0, pairs={})))
