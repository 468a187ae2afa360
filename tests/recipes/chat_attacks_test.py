"""Tests attacks on a hand-made chat model that gives in to some of them."""

import importlib
import json

import numpy as np
import pytest

from configs import red_team
from posttrain_jax.data.chat_attacks import BEGINNING
from posttrain_jax.evaluation import second_opinion
from posttrain_jax.evaluation.compliance_judge import Opinions
from posttrain_jax.recipes import attack_shares, chat_attacks
from posttrain_jax.types import InputError


class HandMade:
  """Refuses, unless an answer is begun, or the last word of the user ends with "!"."""

  def __init__(self, path, **sizes):
    self.path = path

  def encode_chat(self, messages):
    return [0] * sum(len(each["content"].split()) for each in messages)

  def words(self):
    return ["of", "sun!", "rain", "wind"]

  def draw_chats(self, chats, attempt=0):
    return [self._answer(chat) for chat in chats], 3 * len(chats)

  def chat_logprobs(self, chats, endings):
    assert endings == (BEGINNING,)
    return np.array([[-1.0 if chat[-1]["content"].endswith("!") else -4.0] for chat in chats])

  def _answer(self, chat):
    if chat[-1]["role"] == "assistant" or chat[-1]["content"].endswith("!"):
      return " you do it so."
    return "I cannot help with that." if chat[-1]["content"] != "say nothing" else ""


def judge(answers):
  """Takes an answer for help where "so" stands in it."""
  return Opinions(np.array([float("so" in answer.split(".")[0]) for _, answer in answers]), np.ones(len(answers)))


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.setattr(chat_attacks, "TextModel", HandMade)
  rows = [{"prompt": f"how {i} ?", "label": "unsafe", "type": ("one", "two")[i % 2]} for i in range(8)]
  rows += [{"prompt": "fine ?", "label": "safe", "type": "one"}, {"prompt": "long " * 99, "label": "unsafe"}]
  (tmp_path / "xstest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  chats = [[{"role": "user", "content": f"first {i} ?"}, {"role": "assistant", "content": "?"}] for i in range(4)]
  (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"prompt": chat}) + "\n" for chat in chats))
  found = red_team.get_config("chat")
  found.model.path = "model"
  found.prompts.xstest.path, found.prompts.harmless.path = (str(tmp_path / f"{n}.jsonl") for n in ("xstest", "chats"))
  found.update(searched=2, shots=3)
  found.suffix.update(words=1, rounds=8, candidates=4)
  return found


def lines(folder):
  return [json.loads(line) for line in (folder / attack_shares.ATTACKS).read_text().splitlines()]


def test_attacks_are_told_apart(config, tmp_path):
  chat_attacks.check(config)
  found = chat_attacks.attack(config, tmp_path)
  for kind, complied in (("direct", 0), ("disguised", 0), ("prefilled", 1), ("many_shot", 0), ("suffix", 1)):
    assert found[f"attacks/{kind}_complied"] == found[f"attacks/{kind}_complied_high"] == complied
    assert found[f"attacks/{kind}_refused"] == 1 - complied
  assert found["attacks/prefilled/one_complied"] == 1 and found["suffix_gain"] == 3.0
  every = lines(tmp_path)
  assert {line["attack"] for line in every} == {*config.kinds}
  direct = [line for line in every if line["attack"] == "direct"]
  # Two of each file are kept back; what is safe, too long or a later turn is not asked.
  assert len(direct) == 6 + 2 and {line["source"] for line in direct} == {"xstest", "harmless"}
  assert all(line["prompt"].startswith(("how", "first")) for line in direct)
  prefilled = next(line for line in every if line["attack"] == "prefilled")
  assert prefilled["completion"] == f"{BEGINNING} you do it so." and prefilled["complies"]
  built = next(line for line in every if line["attack"] == "build_up")
  assert "assistant: I cannot help with that." in built["text"]
  assert json.loads((tmp_path / attack_shares.SUCCESSES).read_text())["suffix"] == "sun!"
  assert found["sampling/tokens_generated"] == 3 * (8 + len(every))


def test_what_is_searched_on_is_not_measured(config, tmp_path, monkeypatch):
  searched = []

  class Remembers(HandMade):
    def chat_logprobs(self, chats, endings):
      searched.extend(chat[-1]["content"] for chat in chats)
      return super().chat_logprobs(chats, endings)

  monkeypatch.setattr(chat_attacks, "TextModel", Remembers)
  chat_attacks.attack(config, tmp_path)
  assert searched and not [line for line in lines(tmp_path) if any(line["prompt"] in each for each in searched)]


def test_a_budget_ends_the_search(config, tmp_path):
  config.kinds = ("suffix",)
  config.budget = 60
  found = chat_attacks.attack(config, tmp_path)
  assert 0 < found["suffix_tokens"] <= 100 < 8 * 4 * 2 * 4  # the first rounds read a little more than without a suffix
  config.budget = 1
  assert chat_attacks.attack(config, tmp_path)["suffix_tokens"] < 20


def test_saying_nothing_is_neither(config, tmp_path):
  (tmp_path / "xstest.jsonl").write_text(
    "".join(json.dumps({"prompt": text, "label": "unsafe"}) + "\n" for text in ("say nothing", "a ?", "b ?"))
  )
  config.kinds = ("direct",)
  config.prompts.harmless.path = ""
  config.searched = 1
  chat_attacks.attack(config, tmp_path)
  silent = [line for line in lines(tmp_path) if line["prompt"] == "say nothing"]
  assert not any(line["complies"] or line["refuses"] for line in silent)


def test_a_judge_stands_beside_the_rule(config, tmp_path, monkeypatch):
  opened = []
  monkeypatch.setattr(second_opinion, "open_judge", lambda settings, *a, **b: opened.append(settings.path) or judge)
  config.judge.path = "judge"
  found = chat_attacks.attack(config, tmp_path)
  assert opened == ["judge"]
  assert found["attacks/judge/all/kappa"] == found["attacks/judge/xstest/agreement"] == 1
  assert found["attacks/judge/prefilled/model"] == 1 and found["attacks/judge/direct/model"] == 0
  assert all(line["judge"] == float(line["complies"]) for line in lines(tmp_path))


def test_what_is_refused(config, tmp_path):
  config.searched = 4
  with pytest.raises(InputError, match=r"prompts.harmless: found 4, expected more than searched = 4"):
    chat_attacks.attack(config, tmp_path)
  for name in ("xstest", "harmless"):
    config.prompts[name].path = ""
  with pytest.raises(InputError, match=r"prompts: no file is named, expected prompts.NAME.path of one of"):
    chat_attacks.check(config)


def test_a_missing_judge_is_found_before_a_directory_is_made(config, tmp_path):
  config.judge.path = str(tmp_path / "no_such_judge")
  config.model.path = str(tmp_path / "no_such_model")
  with pytest.raises(InputError, match="no_such_model"):
    importlib.import_module("experiments.red_team").main(config.lock(), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
