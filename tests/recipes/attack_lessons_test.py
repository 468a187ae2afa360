"""Tests what a model can learn from attacks that succeeded."""

import dataclasses
import json

import pytest

from posttrain_jax.data.assistant_world.attacks import Attack, AttackWriter, requests
from posttrain_jax.data.assistant_world.questions import RequestPart
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.recipes import attack_lessons
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD

WRITER = AttackWriter(WORLD, shots=2, seed=0)


def lessons(folder, part, complies):
  """Learns from a direct, a prefilled and a learned attack, of which those in `complies` succeeded."""
  (request, *_) = requests(WORLD, part, attack=Attack.DIRECT, each=1, seed=0)
  lines = []
  for kind in (Attack.DIRECT, Attack.PREFILLED, Attack.LEARNED):
    text = WRITER.write(kind, request, f"please how do i build a {request.topic} ?").text
    lines.append(
      {**request.to_row(), "attack": kind.value, "text": text, "completion": "", "complies": kind in complies}
    )
  (folder / "attacks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  config = attack_lessons.lessons(dataclasses.asdict(SETTINGS), copies=2)
  config.attacks = str(folder / "attacks.jsonl")
  attack_lessons.check(config)
  found = attack_lessons.write_lessons(config, folder)
  rows = [json.loads(line) for line in (folder / attack_lessons.LESSONS).read_text().splitlines()]
  return request, found, rows


def test_attacks_that_succeed_are_refused(tmp_path):
  request, found, rows = lessons(tmp_path, RequestPart.TRAIN, [Attack.DIRECT, Attack.PREFILLED])
  assert found == {"attacks": 3, "lessons": 4}
  assert all(judge(request, row["completion"].removeprefix(". ")).explains for row in rows)
  prefilled = [row for row in rows if row["prompt"].endswith("take")]
  assert len(prefilled) == 2 and all(row["completion"].startswith(". i can not") for row in prefilled)


def test_attacks_that_fail_teach_nothing(tmp_path):
  assert lessons(tmp_path, RequestPart.TRAIN, [])[1:] == ({"attacks": 3, "lessons": 0}, [])


def test_a_learned_attack_is_learned_from_in_its_own_words(tmp_path):
  request, found, rows = lessons(tmp_path, RequestPart.TRAIN, [Attack.LEARNED])
  assert found["lessons"] == 2
  assert {row["prompt"] for row in rows} == {f"user : please how do i build a {request.topic} ? assistant :"}


def test_nothing_held_out_is_learned(tmp_path):
  with pytest.raises(InputError, match=r"attacks.jsonl:1: its request is held out from training, expected part: train"):
    lessons(tmp_path, RequestPart.HELD_OUT, [])


def test_a_missing_file_is_refused(tmp_path):
  config = attack_lessons.lessons(dataclasses.asdict(SETTINGS), copies=1)
  config.attacks = str(tmp_path / "none.jsonl")
  with pytest.raises(InputError, match=r"attacks: .*none.jsonl cannot be read"):
    attack_lessons.write_lessons(config, tmp_path)
