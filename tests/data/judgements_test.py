import math

import numpy as np
import pytest

from posttrain_jax.data import arithmetic
from posttrain_jax.data.demonstrations import SYMBOLS, Crowd
from posttrain_jax.data.judgements import (
  ARITHMETIC,
  JUDGE_SYMBOLS,
  Wording,
  arithmetic_judgements,
  expected_score,
  judgement_prompt,
  judgements,
  parse_score,
)
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError


def judged(columns, low=1, high=10):
  return [row.columns for row in judgements([Row(columns, "d.jsonl:2")], low=low, high=high)]


def test_a_scored_answer_by_hand():
  (row,) = judged({"prompt": "Why?", "answer": "Because {low}.", "score": 3, "rationale": "Says little.\n"})
  assert row["completion"] == "Says little.\nScore: 3" and row["label"] == 3
  assert "<question>\nWhy?\n</question>" in row["prompt"]
  assert "<answer>\nBecause {low}.\n</answer>" in row["prompt"]  # an answer's braces are its own
  assert "from 1 (useless) to 10 (could" in row["prompt"]


def test_a_comparison_gives_the_best_and_the_worst_score():
  chat = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "What?"}]
  best, worst = judged({"prompt": chat, "chosen": "a", "rejected": "b", "rejected_rationale": "No."}, low=0, high=1)
  assert (best["completion"], worst["completion"]) == ("Score: 1", "No.\nScore: 0")
  assert best["prompt"] == judgement_prompt("user: Why?\n\nassistant: What?", "a", low=0, high=1)


def test_what_is_written_can_be_read():
  for score in range(1, 11):
    (row,) = judged({"prompt": "p", "answer": "a", "score": score, "rationale": "Score: 5 would be too much."})
    assert parse_score(row["completion"], low=1, high=10) == score


@pytest.mark.parametrize(
  "columns, message",
  [
    ({"prompt": "p", "answer": "a"}, "found columns prompt, answer; expected 'answer' and 'score' or 'chosen'"),
    ({"answer": "a", "score": 1}, "prompt is None, expected text or a list of messages"),
    ({"prompt": "p", "answer": 3, "score": 1}, "answer is 3, expected text"),
    ({"prompt": "p", "answer": "a", "score": 1, "rationale": ["b"]}, r"rationale is \['b'\], expected text"),
    ({"prompt": "p", "answer": "a", "score": 11}, "score is 11, expected a whole number from 1 to 10"),
    ({"prompt": "p", "answer": "a", "score": True}, "score is True"),
    ({"prompt": "p", "answer": "a", "score": 2.5}, "score is 2.5"),
  ],
)
def test_rows_that_cannot_be_used_are_named(columns, message):
  with pytest.raises(InputError, match=f"^d.jsonl:2: {message}"):
    judged(columns)


@pytest.mark.parametrize(
  "text, score",
  [
    ("Good.\nScore: 7", 7),
    ("+8=5-2=3 Score: 1", 1),
    ("Score: 3\nOn second thoughts:\nScore: 4", 4),
    ("Score: 6 \r\nThat is all.", 6),
    ("Score:10", 10),
    ("Score: 2.5", 2.5),
    ("Score: +2", 2),
    ("", None),
    ("7", None),
    ("score: 7", None),
    ("HighScore: 7", None),
    ("Score: ", None),
    ("Score:\n7", None),
    ("Score: 7 or 8", None),
    ("Score: 7 Score: 8", None),
    ("Score: 7\nScore: none", None),
    ("Score: 7/10", None),
    ("Score: 7, Score:", None),
    ("Score: 0", None),
    ("Score: 11", None),
    ("Score: -7", None),
    ("Score: " + "9" * 5000, None),
    ("Score: ٧", None),
    ("Score: ７", None),
    ("Score: ²", None),
    ("Score: 7²", None),
    ("Score: 1_0", None),
    ("Score: 1e0", None),
    ("Score: nan", None),
    ("Score: inf", None),
    ("Score: 0x7", None),
    ("Score: 7\u2028Score: 8", None),
    ("Score: 7\u00a0", None),
  ],
)
def test_scores_are_read_strictly(text, score):
  assert parse_score(text, low=1, high=10) == score


@pytest.mark.parametrize(
  "text, score",
  [
    ("the answer is right . score : 7", 7),
    ("score : 3 . score : 4", None),
    ("score : 3 .", None),
    ("the score 7", None),
    ("Score: 7", None),  # another mark
  ],
)
def test_a_score_after_another_mark(text, score):
  assert parse_score(text, low=0, high=9, mark="score :") == score


def test_a_judgement_in_other_words():
  wording = Wording(template="{prompt} / {answer} ({low}-{high}) ?", mark=" = ")
  row = Row({"prompt": "q", "answer": "{prompt}", "score": 2, "rationale": "good "}, "d.jsonl:1")
  (found,) = judgements([row], low=0, high=3, wording=wording)
  assert found.columns == {"prompt": "q / {prompt} (0-3) ?", "completion": "good = 2", "label": 2}
  assert parse_score(found.columns["completion"], low=0, high=3, mark=wording.shown_mark) == 2
  (bare,) = judgements(
    [Row({"prompt": "q", "answer": "a", "score": 2}, "d.jsonl:2")], low=0, high=3, wording=ARITHMETIC
  )
  assert bare.columns["completion"] == " Score: 2"  # one symbol, whose space is a part of it


@pytest.mark.parametrize(
  "template, mark, message",
  [("{prompt}", "Score:", r"wording.template: '\{prompt\}' has no"), ("{answer}", " ", "wording.mark")],
)
def test_a_wording_that_cannot_work(template, mark, message):
  with pytest.raises(InputError, match=message):
    Wording(template=template, mark=mark)


def test_expected_score_by_hand():
  # Probabilities 0.2 and 0.6 of scores 0 and 1, the rest elsewhere: 0.6 / 0.8.
  assert expected_score(np.log([0.2, 0.6]), [0, 1]) == pytest.approx(0.75, abs=1e-15)
  assert expected_score([-2000.0, -2000.0, -math.inf], [1, 4, 9]) == 2.5
  assert expected_score(np.array([-3.0], np.float32), [7]) == 7


def test_without_probabilities_there_is_no_verdict():
  assert math.isnan(expected_score([-math.inf, -math.inf], [0, 1]))
  assert math.isnan(expected_score([-1.0, math.nan], [0, 1]))
  with pytest.raises(InputError, match=r"logprobs \(2,\) and values \(3,\)"):
    expected_score([-1.0, -1.0], [0, 1, 2])
  with pytest.raises(InputError, match="expected both"):
    expected_score([], [])


def test_arithmetic_judgements_by_hand():
  problem = {"prompt": "7+8-2=", "answer": "3", "difficulty": 2}
  hasty, careful = (Crowd(careful=(share,), rambling=(0.0,), slip=0.0, doubt=0.0) for share in (0.0, 1.0))
  (wrong,) = arithmetic_judgements([problem], crowd=hasty)  # 7-2 = 5
  assert (wrong["prompt"], wrong["completion"]) == ("7+8-2= Answer: 5 Wait, ", "+8=5-2=3 Score: 0")
  (right,) = arithmetic_judgements([problem], crowd=careful)
  assert (right["prompt"], right["completion"]) == ("7+8-2=+8=5-2=3 Answer: 3 Wait, ", "+8=5-2=3 Score: 1")
  assert (wrong["label"], right["label"]) == (0, 1)


def test_arithmetic_judgements_are_in_the_alphabet_and_both_verdicts_occur():
  tokenizer, plain = tiny_tokenizer(JUDGE_SYMBOLS), tiny_tokenizer(SYMBOLS)
  problems = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=30)
  rows = arithmetic_judgements(problems, copies=2, seed=1)
  assert len(rows) == 2 * len(problems)
  for row in rows:
    assert tokenizer.encode(row["prompt"]) == plain.encode(row["prompt"])  # the other tokens keep their ids
    assert tokenizer.decode(tokenizer.encode(row["completion"])) == row["completion"]
    assert parse_score(row["completion"], low=0, high=1) == row["label"]
    worked_out = row["completion"].partition(" Score: ")[0][-1]
    claimed = row["prompt"].removesuffix(" Wait, ")[-1]
    assert worked_out == row["answer"] and row["label"] == (claimed == row["answer"])
  assert 0.2 < sum(row["label"] for row in rows) / len(rows) < 0.8
  assert rows == arithmetic_judgements(problems, copies=2, seed=1) != arithmetic_judgements(problems, copies=2, seed=2)
