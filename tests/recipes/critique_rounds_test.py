"""Tests the rounds with a hand-made critic: what it reads, what becomes of what it writes."""

import json
import random

import numpy as np
import pytest

from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.data.constitution import read_constitution
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.recipes import critique_rounds
from posttrain_jax.recipes.principle_fit import about_harm
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD
from tests.data.constitution_test import FILE
from tests.recipes.saved_model import save_model


@pytest.fixture
def config(tmp_path):
  writer, lines = AnswerWriter(WORLD, 0), []
  for request in critiques.red_team(WORLD)[:3]:
    row = {name: value for name, value in request.to_row().items() if name != "prompt"}
    line = {"prompt": TEMPLATE.format(prompt=request.text), "answers": [writer.answer(request, Author.HELPFUL)]}
    lines.append(json.dumps({**line, "scores": [0.0], "row": row}))
  (tmp_path / "candidates").mkdir()
  (tmp_path / "candidates" / "000000.jsonl").write_text("\n".join(lines) + "\n")
  found = critique_rounds.rounds()
  found.update(constitution=str(FILE), candidates=str(tmp_path / "candidates"), slots=8, max_new_tokens=6, rounds=2)
  for seed, field in enumerate(("model", "knowledge")):
    save_model(tmp_path / field, seed, tokenizer=word_tokenizer(vocabulary()))
    found[field].path = str(tmp_path / field)
  return found


class HandMade:
  """Revises each answer to "revised N" in round N, but not the first one."""

  def __init__(self, path, **sizes):
    self.read = []
    HandMade.last = self

  def draw(self, texts, attempt=0):
    self.read.append(list(texts))
    return [f"c . revision : revised {attempt}" if i else "c ." for i in range(len(texts))], 5 * len(texts)

  def logprobs(self, texts, endings):
    raise AssertionError("hand-made fits need none")


class HandMadeRecall:
  """Knows the same of everything."""

  def __init__(self, path, **sizes):
    pass

  def known(self, requests):
    return ["it is known"] * len(requests), 7


def rows(folder, file=critique_rounds.REVISIONS):
  return [json.loads(line) for line in (folder / file).read_text().splitlines()]


def hand_made(monkeypatch, fit):
  monkeypatch.setattr(critique_rounds, "TextModel", HandMade)
  monkeypatch.setattr(critique_rounds, "Recall", HandMadeRecall)
  monkeypatch.setattr(critique_rounds, "fits", lambda logprobs, requests, *rest: np.zeros((len(requests), 4)))
  monkeypatch.setattr(critique_rounds, "speaking", lambda found: fit)


def test_a_round_revises_what_the_one_before_it_left(config, tmp_path, monkeypatch):
  hand_made(monkeypatch, 2)  # number 4 of the constitution
  config.rounds = 4
  monkeypatch.setattr(critique_rounds, "draw_principles", lambda rng, known, count: [known[2]] * count)
  found = critique_rounds.revise(config, tmp_path)
  assert found["examples"] == 8 and found["tokens_generated"] == 7 + 4 * 15
  assert [found[f"changed_{number}"] for number in range(1, 5)] == [2 / 3] * 4
  written = rows(tmp_path, critique_rounds.CRITIQUES)
  assert [row["round"] for row in written] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
  assert [row["completion"] for row in written[1:3]] == ["revised 0"] * 2
  assert [row["before"] for row in written[4:6]] == ["revised 0"] * 2
  assert written[0]["completion"] == written[0]["before"] == written[3]["completion"]  # without a revision
  says = read_constitution(str(FILE)).principles[3].says
  for row, text in zip(written, [text for each in HandMade.last.read for text in each]):
    assert text == critiques.critic_prompt(row["prompt"], row["before"], "it is known", says)
  assert rows(tmp_path) == [row for row in written if row["completion"] != row["before"]]


def test_a_principle_that_does_not_speak_of_what_is_asked_revises_nothing(config, tmp_path, monkeypatch):
  hand_made(monkeypatch, 2)
  config.rounds = 4
  found = critique_rounds.revise(config, tmp_path)
  written = rows(tmp_path, critique_rounds.CRITIQUES)
  assert sum(map(len, HandMade.last.read)) == 3  # each answer is critiqued in one of the four rounds
  assert all(row["principle"] == 4 for row in rows(tmp_path))
  others = [row for row in written if row["principle"] != 4]
  assert len(others) == 9 and all(row["critique"] == "that is not the principle ." for row in others)
  harms = [row["request"]["harm"] for row in written[:3]]
  for half in {critiques.half(harm) for harm in harms}:
    own = [harm in ("sickness", "traps") for harm in harms if critiques.half(harm) == half]
    assert found[f"fits/{half}"] == sum(own) / len(own)
  hand_made(monkeypatch, None)
  assert critique_rounds.revise(config, tmp_path)["examples"] == 0
  assert [row["completion"] for row in rows(tmp_path)] == [row["before"] for row in written[:3]]


def test_principles_are_drawn_once_before_one_comes_again():
  known = about_harm(read_constitution(str(FILE)))
  assert [each.number for each in known] == [2, 3, 4, 5]
  drawn = critique_rounds.draw_principles(random.Random(0), known, 6)
  assert {each.number for each in drawn[:4]} == {2, 3, 4, 5} and len(drawn) == 6


def test_a_killed_stage_starts_again_to_the_same_bits(config, tmp_path):
  for name in ("one", "other"):
    (tmp_path / name).mkdir()
    critique_rounds.revise(config, tmp_path / name)
  assert rows(tmp_path / "one", critique_rounds.CRITIQUES) == rows(tmp_path / "other", critique_rounds.CRITIQUES)
  config.seed = 1
  critique_rounds.revise(config, tmp_path / "other")
  assert rows(tmp_path / "one", critique_rounds.CRITIQUES) != rows(tmp_path / "other", critique_rounds.CRITIQUES)


def test_a_constitution_without_harm(config, tmp_path):
  text = "## Priorities\n1. a\n## Principles\n### 1. B\n- priority: a\n- about: help\n- says: b\n- paraphrase: c\n"
  (tmp_path / "c.md").write_text(text)
  config.constitution = str(tmp_path / "c.md")
  with pytest.raises(InputError, match="no principle is about a category of harm"):
    critique_rounds.revise(config, tmp_path)
