"""Tests what a chat model is asked for; a hand-made model stands for it."""

import json

import pytest

from configs.recipes.constitutional_ai import ENGLISH
from posttrain_jax.data.constitution import read_constitution
from posttrain_jax.data.prompts import Row
from posttrain_jax.recipes import chat_critiques
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError

PRINCIPLES = read_constitution(ENGLISH).principles


class HandMade:
  """Answers "answer", critiques by "critique", and revises to "revision N"; says nothing of what is blank."""

  def __init__(self, path, **sizes):
    self.read = []
    HandMade.last = self

  def encode_chat(self, messages):
    return [0] * sum(len(message["content"].split()) for message in messages)

  def draw_chats(self, chats, attempt=0):
    self.read.append(chats)
    if attempt == 0:
      return ["answer"] * len(chats), 2
    if attempt % 2:
      return ["critique"] * len(chats), 2
    return ["" if "blank" in chat[0]["content"] else f"revision {attempt // 2}" for chat in chats], 2


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.setattr(chat_critiques, "TextModel", HandMade)
  rows = [{"prompt": [{"role": "user", "content": "how ?"}]}, {"prompt": "why ?"}, {"prompt": "blank ?"}]
  rows.append({"prompt": "long " * 20})
  (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  found = chat_critiques.rounds()
  found.update(constitution=ENGLISH, path=str(tmp_path / "prompts.jsonl"), limit=9, max_asked=9)
  found.model.path = "model"
  return found


def test_each_revision_is_asked_for_under_the_principle_of_its_round(config, tmp_path):
  found = chat_critiques.revise(config, tmp_path)
  rows = [json.loads(line) for line in (tmp_path / "revisions.jsonl").read_text().splitlines()]
  assert found == {"examples": 4, "prompts": 3, "tokens_generated": 10}  # nothing is revised to nothing
  assert [row["completion"] for row in rows] == ["revision 1"] * 2 + ["revision 2"] * 2
  assert [row["before"] for row in rows] == ["answer"] * 2 + ["revision 1"] * 2
  critiqued, revised = HandMade.last.read[1], HandMade.last.read[2]
  for chat, after in zip(critiqued, revised):
    says = next(each.says for each in PRINCIPLES if each.says in chat[-1]["content"])
    assert chat[-2:] == chat_critiques.said([], "answer", chat_critiques.CRITIQUE.format(says))
    assert after[-1]["content"] == chat_critiques.REVISE.format(says) and after[-2]["content"] == "critique"
  for one, other in zip(rows, rows[2:]):
    assert one["prompt"] == other["prompt"] and one["principle"] != other["principle"]


def test_prompts_that_are_too_long_are_left_out(config, tmp_path):
  config.max_asked = 1
  with pytest.raises(InputError, match="found no prompt of at most 1 tokens"):
    chat_critiques.revise(config, tmp_path)


def test_bad_input_and_the_estimate(config):
  with pytest.raises(InputError, match=r"file:2: prompt is 3, expected text or messages"):
    chat_critiques._chat(Row({"prompt": 3}, "file:2"))
  config.path = ""
  with pytest.raises(InputError, match="path: empty"):
    chat_critiques.check(config)
  config.model.path = "smollm2-135m-instruct"
  assert chat_critiques.forecast(config, Forecast(0.5)).rows == {"revisions.jsonl": 18}
