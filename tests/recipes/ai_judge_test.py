"""Tests how a judge is asked and how a constitution weighs; a hand-made judge stands for the model."""

import json
import math

import numpy as np
import pytest

from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.data.constitution import Principle
from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.recipes import ai_judge
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD
from tests.data.constitution_test import FILE
from tests.recipes.saved_model import save_model


def principle(number, priority, hard=False):
  return Principle(number, f"p{number}", priority, ("fire",), "fire is wrong", "no fire", hard)


def test_the_probability_is_that_among_a_and_b_averaged_over_both_orders():
  def logprobs(texts):
    # In the first order A is three times as likely as B; in the other one both are equally likely.
    return np.log([[0.3, 0.1] if "(A) good" in text else [0.2, 0.2] for text in texts])

  found, agree = ai_judge.probabilities(logprobs, [("q", "good", "bad")], "fire is wrong")
  np.testing.assert_allclose(found, [(0.75 + 0.5) / 2])
  np.testing.assert_array_equal(agree, [0])


def test_a_judge_that_looks_at_the_place_only_says_nothing():
  found, agree = ai_judge.probabilities(lambda texts: np.log([[0.9, 0.1]] * len(texts)), [("q", "a", "b")], "p")
  np.testing.assert_allclose(found, [0.5])
  np.testing.assert_array_equal(agree, [0])


def test_what_a_judge_reads_ends_before_its_choice():
  seen = []
  ai_judge.probabilities(lambda texts: seen.extend(texts) or np.zeros((len(texts), 2)), [("q :", "x", "y")], "p")
  assert seen == ["q : (A) x (B) y principle : p . better :", "q : (A) y (B) x principle : p . better :"]


def test_all_principles_are_weighed_together_and_a_higher_priority_weighs_twice_as_much():
  found = ai_judge.weigh({1: 0.6, 2: 0.2}, [principle(1, 0), principle(2, 1)], 2)
  total = 2 * math.log(0.6 / 0.4) + math.log(0.2 / 0.8)
  assert found.probability == pytest.approx(1 / (1 + math.exp(-total)))
  assert (found.decided, found.vetoed) == (2, False)
  swapped = ai_judge.weigh({1: 0.6, 2: 0.3}, [principle(1, 1), principle(2, 0)], 2)
  kept = ai_judge.weigh({1: 0.7, 2: 0.3}, [principle(1, 0), principle(2, 1)], 2)
  assert swapped.probability < 0.5 < kept.probability and (swapped.decided, kept.decided) == (2, 1)


def test_a_hard_constraint_decides_alone_where_it_is_sure():
  others = [principle(1, 0), principle(2, 0)]
  assert ai_judge.weigh({1: 0.99, 2: 0.99, 3: 0.2}, [*others, principle(3, 1, True)], 2) == (0.2, 3, True)
  unsure = ai_judge.weigh({1: 0.99, 2: 0.99, 3: 0.4}, [*others, principle(3, 1, True)], 2)
  assert unsure.probability > 0.9 and not unsure.vetoed
  assert not ai_judge.weigh({1: 0.99, 2: 0.99, 3: 0.2}, [*others, principle(3, 1)], 2).vetoed


def test_principles_that_say_nothing_leave_a_half():
  assert ai_judge.weigh({1: 0.5, 2: 0.5}, [principle(1, 0), principle(2, 1)], 2).probability == 0.5


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
  save_model(tmp_path / "judge", 0, tokenizer=word_tokenizer(vocabulary()))
  config = ai_judge.judging()
  config.update(constitution=str(FILE), candidates=str(tmp_path / "candidates"), slots=8, pairs=1)
  config.model.path = str(tmp_path / "judge")
  return config


def test_every_judgement_is_a_row_with_its_principle(config, tmp_path):
  found = ai_judge.judge(config, tmp_path)
  rows = [json.loads(line) for line in (tmp_path / ai_judge.JUDGED).read_text().splitlines()]
  assert found["comparisons"] == len(rows) == 6
  for row in rows:
    assert judgement(row).probability == row["probability"] >= 0.5 and row["principle"] in (2, 3, 4, 5)
  config.removed = 4
  ai_judge.judge(config, tmp_path)
  rows = [json.loads(line) for line in (tmp_path / ai_judge.JUDGED).read_text().splitlines()]
  assert 4 not in {row["principle"] for row in rows}


def test_answers_that_are_all_equal(config, tmp_path):
  file = tmp_path / "candidates" / "000000.jsonl"
  rows = [json.loads(line) for line in file.read_text().splitlines()]
  file.write_text("".join(json.dumps({**row, "answers": row["answers"][:1] * 2}) + "\n" for row in rows))
  with pytest.raises(InputError, match="no two different answers"):
    ai_judge.judge(config, tmp_path)
