import json

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
