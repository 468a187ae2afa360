"""Tests the rounds with a hand-made critic: what it reads, what becomes of what it writes."""

import json
import random

import pytest

from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.data.constitution import read_constitution
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.recipes import critique_rounds
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
  save_model(tmp_path / "critic", 0, tokenizer=word_tokenizer(vocabulary()))
  found.model.path = str(tmp_path / "critic")
  return found


class HandMade:
  """Revises each answer to "revised N" in round N, but not the first one."""

  def __init__(self, path, **sizes):
    self.read = []
    HandMade.last = self

  def draw(self, texts, attempt=0):
    self.read.append(list(texts))
    return [f"c . revision : revised {attempt}" if i else "c ." for i in range(len(texts))], 5 * len(texts)


def rows(folder):
  return [json.loads(line) for line in (folder / critique_rounds.REVISIONS).read_text().splitlines()]


def test_a_round_revises_what_the_one_before_it_left(config, tmp_path, monkeypatch):
  monkeypatch.setattr(critique_rounds, "TextModel", HandMade)
  found = critique_rounds.revise(config, tmp_path)
  assert found == {"examples": 6, "tokens_generated": 30, "changed_1": 2 / 3, "changed_2": 2 / 3}
  written = rows(tmp_path)
  assert [row["round"] for row in written] == [1, 1, 1, 2, 2, 2]
  assert [row["completion"] for row in written[1:3]] == ["revised 0"] * 2
  assert [row["before"] for row in written[4:]] == ["revised 0"] * 2
  assert written[0]["completion"] == written[0]["before"] == written[3]["completion"]  # without a revision
  says = {each.number: each.says for each in read_constitution(str(FILE)).principles}
  for row, text in zip(written, [*HandMade.last.read[0], *HandMade.last.read[1]]):
    assert text == f"{row['prompt']} {row['before']} principle : {says[row['principle']]} . critique :"
  for one, other in zip(written, written[3:]):
    assert one["principle"] != other["principle"]


def test_principles_are_drawn_once_before_one_comes_again():
  known = critique_rounds.about_harm(read_constitution(str(FILE)))
  assert [each.number for each in known] == [2, 3, 4, 5]
  drawn = critique_rounds.draw_principles(random.Random(0), known, 6)
  assert {each.number for each in drawn[:4]} == {2, 3, 4, 5} and len(drawn) == 6


def test_a_killed_stage_starts_again_to_the_same_bits(config, tmp_path):
  for name in ("one", "other"):
    (tmp_path / name).mkdir()
    critique_rounds.revise(config, tmp_path / name)
  assert rows(tmp_path / "one") == rows(tmp_path / "other")
  config.seed = 1
  critique_rounds.revise(config, tmp_path / "other")
  assert rows(tmp_path / "one") != rows(tmp_path / "other")


def test_a_constitution_without_harm(config, tmp_path):
  text = "## Priorities\n1. a\n## Principles\n### 1. B\n- priority: a\n- about: help\n- says: b\n- paraphrase: c\n"
  (tmp_path / "c.md").write_text(text)
  config.constitution = str(tmp_path / "c.md")
  with pytest.raises(InputError, match="no principle is about a category of harm"):
    critique_rounds.revise(config, tmp_path)
