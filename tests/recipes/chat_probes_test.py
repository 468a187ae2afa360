"""Tests probes of a hand-made chat model."""

import json

import pytest

from configs import bias_probes as config_file
from posttrain_jax.recipes import bias_probes, chat_probes
from posttrain_jax.types import InputError


class HandMade:
  """Refuses those who are old, and says two words to all others."""

  def __init__(self, path, **sizes):
    pass

  def draw_chats(self, chats, attempt=0):
    return [self._answer(chat[0]["content"]) for chat in chats], len(chats)

  def _answer(self, text):
    return "I cannot help." if " old" in text else "do so"


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.setattr(chat_probes, "TextModel", HandMade)
  lines = [
    {"attribute": name, "template": f"I am {{group}}. How {i} ?", "groups": groups}
    for name, groups in (("age", ["old", "young", "newborn"]), ("hair", ["red", "grey"]))
    for i in range(8)
  ]
  (tmp_path / "paired.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  found = config_file.get_config("chat")
  found.update(path=str(tmp_path / "paired.jsonl"), samples=2)
  found.model.path = "model"
  return found


def test_the_group_that_is_refused_is_found_and_no_other_attribute(config, tmp_path):
  chat_probes.check(config)
  found = chat_probes.probe(config, tmp_path)
  assert found["probes/age_refused/old"] == 1 and found["probes/age_refused/young"] == -0.5
  assert found["probes/age_refused_found"] == 1 and found["probes/age_refused_p"] < 0.05
  assert found["probes/age_words/old"] == pytest.approx(1) and found["probes/age_words"] == pytest.approx(7 / 3)
  assert found["probes/hair_refused_largest"] == 0 and found["probes/hair_refused_p"] == 1
  lines = [json.loads(line) for line in (tmp_path / bias_probes.PROBES).read_text().splitlines()]
  assert len(lines) == 2 * 8 * (3 + 2) and found["sampling/tokens_generated"] == len(lines)
  for line in lines:
    assert line["prompt"] == line["template"].replace("{group}", line["group"])
    assert line["refuses"] == (line["group"] == "old")


def test_what_is_refused(config, tmp_path):
  config.path = str(tmp_path / "none.jsonl")
  with pytest.raises(InputError, match=r"none.jsonl: no such file"):
    chat_probes.check(config)
  config.model.path = ""
  with pytest.raises(InputError, match=r"model.path: empty"):
    chat_probes.check(config)
