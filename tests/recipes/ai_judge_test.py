"""Tests how a judge is asked; a hand-made model stands for it."""

import json

import numpy as np
import pytest

from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.recipes import ai_judge
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD
from tests.data.constitution_test import FILE
from tests.recipes.saved_model import save_model


class HandMade:
  """Reads what it is asked, and chooses by given logprobs."""

  def __init__(self, logprobs, thought=""):
    self.read, self.thought, self._logprobs = [], thought, logprobs

  def draw(self, texts):
    self.read.extend(texts)
    return [self.thought] * len(texts), 3 * len(texts)

  def logprobs(self, texts, endings):
    assert endings == ("(A)", "(B)")
    self.read.extend(texts)
    return self._logprobs(texts)


def test_the_probability_is_that_among_a_and_b_averaged_over_both_orders():
  def logprobs(texts):
    # In the first order A is three times as likely as B; in the other one both are equally likely.
    return np.log([[0.3, 0.1] if "(A) good" in text else [0.2, 0.2] for text in texts])

  judge = ai_judge.Judge(HandMade(logprobs), thinks=False)
  found, agree = judge.probabilities([("q", "good", "bad", "k", "fire is wrong")])
  np.testing.assert_allclose(found, [(0.75 + 0.5) / 2])
  np.testing.assert_array_equal(agree, [0])


def test_a_judge_that_looks_at_the_place_only_says_nothing():
  judge = ai_judge.Judge(HandMade(lambda texts: np.log([[0.9, 0.1]] * len(texts))), thinks=False)
  found, agree = judge.probabilities([("q", "a", "b", "k", "p")])
  np.testing.assert_allclose(found, [0.5])
  np.testing.assert_array_equal(agree, [0])


def test_what_a_judge_reads_ends_before_its_choice():
  model = HandMade(lambda texts: np.zeros((len(texts), 2)))
  ai_judge.Judge(model, thinks=False).probabilities([("q :", "x", "y", "k", "p")])
  assert model.read == [
    "q : k . principle : p . (A) x (B) y better :",
    "q : k . principle : p . (A) y (B) x better :",
  ]


def sure(texts):
  """Is nearly sure of the answer "good"."""
  return np.log([[0.99, 0.01] if "(A) good" in text else [0.01, 0.99] for text in texts])


def test_the_clamp_acts_on_each_order_of_a_judge_that_thinks():
  pair = ("q :", "good", "bad", "k", "p")
  model = HandMade(sure, thought="(B) is a mistake . better : (A)")
  judge = ai_judge.Judge(model, thinks=True)
  np.testing.assert_allclose(judge.probabilities([pair])[0], [0.6])
  assert model.read[:2] == [
    "q : k . principle : p . (A) good (B) bad critique :",
    "q : k . principle : p . (A) good (B) bad critique : (B) is a mistake . better :",
  ]
  assert judge.tokens == 6
  np.testing.assert_allclose(ai_judge.Judge(HandMade(sure), thinks=False).probabilities([pair])[0], [0.99])
  # What is already within 40 to 60 % stays.
  unsure = HandMade(lambda texts: np.log([[0.55, 0.45] if "(A) good" in text else [0.45, 0.55] for text in texts]))
  np.testing.assert_allclose(ai_judge.Judge(unsure, thinks=True).probabilities([pair])[0], [0.55])


@pytest.fixture
def config(tmp_path):
  writer, lines = AnswerWriter(WORLD, 0), []
  for request in critiques.red_team(WORLD)[:6]:
    texts = [writer.answer(request, author) for author in (Author.HELPFUL, Author.BARE)]
    row = {name: value for name, value in request.to_row().items() if name != "prompt"}
    asked = TEMPLATE.format(prompt=request.text)
    lines.append(json.dumps({"prompt": asked, "answers": texts, "scores": [0.0] * 2, "row": row}))
  (tmp_path / "candidates").mkdir()
  (tmp_path / "candidates" / "000000.jsonl").write_text("\n".join(lines) + "\n")
  for seed, name in enumerate(("judge", "critic", "base")):
    save_model(tmp_path / name, seed, tokenizer=word_tokenizer(vocabulary()))
  config = ai_judge.judging("cai")
  config.update(constitution=str(FILE), slots=8, pairs=1)
  config.policies.cai.path = str(tmp_path / "candidates")
  for field, name in (("model", "judge"), ("critic", "critic"), ("knowledge", "base")):
    config[field].path = str(tmp_path / name)
  return config


def judged(folder):
  return [json.loads(line) for line in (folder / ai_judge.JUDGED).read_text().splitlines()]


def test_every_judgement_is_a_row_with_the_principles_that_were_asked(config, tmp_path, monkeypatch):
  monkeypatch.setattr(ai_judge, "speaking", lambda found: 2)  # number 4
  found = ai_judge.judge(config, tmp_path)
  rows = judged(tmp_path)
  assert found["comparisons"] == len(rows) == 6
  for row in rows:
    assert judgement(row).probability == row["probability"] >= 0.5
    assert {*row["asked"]} == {"1", "4", "6", "7", "8"} and str(row["principle"]) in row["asked"]
  monkeypatch.setattr(ai_judge, "speaking", lambda found: None)
  found = ai_judge.judge(config, tmp_path)
  assert all({*row["asked"]} == {"1", "6", "7", "8"} for row in judged(tmp_path))
  assert found["own/trained"] == 0 and not any(name.startswith("order/") for name in found)


def test_a_judge_may_think_first(config, tmp_path):
  config.thinks = True
  found = ai_judge.judge(config, tmp_path)
  assert found["tokens_generated"] > 0
  assert all(0.4 <= value <= 0.6 for row in judged(tmp_path) for value in row["asked"].values())


def test_answers_that_are_all_equal(config, tmp_path):
  file = tmp_path / "candidates" / "000000.jsonl"
  rows = [json.loads(line) for line in file.read_text().splitlines()]
  file.write_text("".join(json.dumps({**row, "answers": row["answers"][:1] * 2}) + "\n" for row in rows))
  with pytest.raises(InputError, match="no two different answers"):
    ai_judge.judge(config, tmp_path)


def test_answers_of_two_models_are_compared_with_each_other(config, tmp_path):
  (tmp_path / "other").mkdir()
  rows = [json.loads(line) for line in (tmp_path / "candidates" / "000000.jsonl").read_text().splitlines()]
  lines = [json.dumps({**row, "answers": ["say red .", "say blue ."]}) for row in rows]
  (tmp_path / "other" / "000000.jsonl").write_text("\n".join(lines) + "\n")
  config.policies.other = dict(path=str(tmp_path / "other"))
  ai_judge.judge(config, tmp_path)
  for row in judged(tmp_path):
    assert sum(row[name].startswith("say ") for name in ("chosen", "rejected")) == 1
