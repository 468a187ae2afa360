"""Tests judged answers in rounds that are kept."""

import dataclasses
import math

import numpy as np
import pytest

from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.rejection import Candidates
from posttrain_jax.rollouts.candidates import asked_text, best_over_worst, sample_candidates
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.types import FinishReason, Prompt
from tests.pipelines.made_groups import answer, group


def candidates(answers, scores, **row):
  return Candidates("1+1=", answers, scores, row)


@pytest.mark.parametrize(
  "answers, scores, pair",
  [
    (["a", "b", "c"], [0, 1, 1], ("b", "a")),
    (["a", "b", "c"], [math.nan, 2, 1], ("b", "c")),
    (["a", "b"], [1, 1], None),
    (["a", " a"], [0, 1], None),
    (["a", "b"], [math.nan, 1], None),
    (["a"], [math.nan], None),
  ],
)
def test_the_best_answer_over_the_worst(answers, scores, pair):
  found = best_over_worst([candidates(answers, scores, answer="2")])
  expected = [] if pair is None else [{"answer": "2", "prompt": "1+1=", "chosen": pair[0], "rejected": pair[1]}]
  assert found == expected


def test_what_was_asked_as_it_was_asked():
  row = {"question": "2+2?", "answer": "4"}
  assert asked_text(row, PromptFormat("Q: {prompt}")) == "Q: 2+2?"
  system, user = {"role": "system", "content": "think"}, {"role": "user", "content": "Q: 2+2?"}
  assert asked_text(row, PromptFormat("Q: {prompt}", chat=True, system="think")) == [system, user]
  said = [{"role": "assistant", "content": "well"}, {"role": "user", "content": "2+2?"}]
  assert asked_text({"messages": said}, PromptFormat("Q: {prompt}", system="think")) == [system, said[0], user]
  assert said[1]["content"] == "2+2?"


def test_rounds_are_kept_and_answers_that_are_cut_or_empty_have_no_verdict(tmp_path):
  rows = [{"prompt": f"{i}+1=", "answer": "2", "score": 7, "source": "mine"} for i in range(3)]
  prompts = [Prompt(i, (1,), row) for i, row in enumerate(rows)]
  calls = []

  def generate(asked, samples):
    calls.append([prompt.index for prompt in asked])
    drawn = [answer([1, 2]), answer([3, 4]), answer([5], reason=FinishReason.LENGTH), answer([6])]
    return [group(drawn[:samples], [1, 0, 1, 1], row=prompt.row) for prompt in asked]

  def judge(groups):
    return [dataclasses.replace(each, texts=("x", "y", "z", " ")) for each in groups]

  preemption = Preemption()
  options = dict(samples=4, round_size=2, prompt_format=PromptFormat(), directory=tmp_path, preemption=preemption)
  preemption.requested = True
  with pytest.raises(Preempted, match="0 of 2"):
    sample_candidates(prompts, generate, judge, **options)
  preemption.requested = False
  found, counts = sample_candidates(prompts, generate, judge, **options)
  assert calls == [[0, 1], [2]]
  assert counts == {"truncated": 3, "empty": 3, "tokens_generated": 18}
  assert [each.prompt for each in found] == ["0+1=", "1+1=", "2+1="]
  assert found[0].row == {"answer": "2", "source": "mine"}
  np.testing.assert_array_equal([each.scores for each in found], [[1, 0, math.nan, math.nan]] * 3)
  (tmp_path / "000001.jsonl").unlink()
  again, counts = sample_candidates(prompts, generate, judge, **options)
  assert calls == [[0, 1], [2], [2]] and counts == {"truncated": 3, "empty": 3, "tokens_generated": 18}
  assert [each.answers for each in again] == [["x", "y", "z", " "]] * 3
