import collections
import dataclasses

import ml_collections
import numpy as np
import pytest

from posttrain_jax.assembly import judges
from posttrain_jax.assembly.judges import OverlongFilter
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.rewards.judge import OverlongPenalty
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers, Scores
from posttrain_jax.rollouts import metrics
from posttrain_jax.runs.settings import parse
from posttrain_jax.sampling.engine import EngineStats
from posttrain_jax.types import FinishReason, Group, Prompt
from tests.pipelines.made_groups import answer

TOKENIZER = tiny_tokenizer("0123456789?")  # <pad> 0, <eos> 1, "0" 2, "1" 3, ...
EOS = 1


class Workers:
  """Scores a text 1 if it is the answer, and gives no verdict if it has a question mark."""

  functions = (RewardFunction(path="-", weight=2.0, options={}, name="correct"),)

  def judge(self, index, texts, rows):
    assert index == 0
    self.texts = list(texts)
    rewards = np.array([np.nan if "?" in text else float(text == row["answer"]) for text, row in zip(texts, rows)])
    return Scores(rewards, np.zeros(len(texts), bool), np.zeros(len(texts), bool), {})


def drawn(text, *, stop=True):
  tokens = TOKENIZER.encode(text) + [EOS] * stop
  return answer(tokens, reason=FinishReason.EOS if stop else FinishReason.LENGTH)


def a_group():
  """Makes a group of four answers: right, right but truncated, wrong, without a verdict."""
  answers = (drawn("12"), drawn("12", stop=False), drawn("3"), drawn("?"))
  return Group(Prompt(0, (2, 3), {"answer": "12"}), answers)


def judge(overlong_filter=OverlongFilter.OFF, **options):
  return judges.make_judge(Workers(), TOKENIZER, accuracy="correct", overlong_filter=overlong_filter, **options)


@pytest.mark.parametrize(
  ("tokens", "text"),
  [
    ([3, 4, EOS], "12"),
    ([3, 4], "12"),  # truncated: every token is text
    ([EOS], ""),
    ([], ""),
    ([3, EOS, 4, EOS], "1<eos>2"),  # only the end is left out
  ],
)
def test_text_of_an_answer(tokens, text):
  assert judges.answer_text(TOKENIZER, np.array(tokens, np.int32)) == text


def test_any_stop_id_is_left_out():
  tokenizer = tiny_tokenizer("0123")
  object.__setattr__(tokenizer, "stop_ids", (1, 5))
  assert judges.answer_text(tokenizer, np.array([2, 3, 5])) == "01"
  assert judges.answer_text(tokenizer, np.array([2, 3, 4])) == "012"


@pytest.mark.parametrize("overlong_filter", [OverlongFilter.OFF, OverlongFilter.LOSS])
def test_truncated_answers_keep_their_rewards(overlong_filter):
  (judged,) = judge(overlong_filter)([a_group()])
  assert judged.texts == ("12", "12", "3", "?")
  np.testing.assert_array_equal(judged.accuracy, [1, 1, 0, 0])
  np.testing.assert_array_equal(judged.rewards, [2, 2, 0, 0])
  np.testing.assert_array_equal(judged.valid, [True, True, True, False])


def test_filtered_out_of_the_group():
  (judged,) = judge(OverlongFilter.GROUP)([a_group()])
  np.testing.assert_array_equal(judged.accuracy, [1, 0, 0, 0])
  np.testing.assert_array_equal(judged.rewards, [2, 0, 0, 0])
  np.testing.assert_array_equal(judged.valid, [True, False, True, False])
  assert judged.rewards.dtype == judged.accuracy.dtype == np.float32
  np.testing.assert_array_equal(judged.components["correct"], [1, 1, 0, np.nan])  # what the verifier said


def test_only_failed_verifiers_are_counted_as_invalid():
  (judged,) = judge(OverlongFilter.GROUP)([a_group()])
  found = metrics.describe(
    [judged], [(judged, "trained")], collections.Counter({"trained": 1}), EngineStats(), version=0
  )
  assert found["reward/invalid"] == 1  # not the truncated one, which has a verdict
  assert found["accuracy/mean"] == 0.5 and found["reward/mean"] == 1


def test_the_overlong_penalty_is_in_the_reward_and_not_in_the_accuracy():
  (judged,) = judge(penalty=OverlongPenalty(max_length=3, buffer=1))([a_group()])
  np.testing.assert_array_equal(judged.components["overlong"], [-1, 0, 0, 0])  # "12" and its stop id are 3 tokens
  np.testing.assert_array_equal(judged.rewards, [1, 2, 0, 0])
  np.testing.assert_array_equal(judged.accuracy, [1, 1, 0, 0])


def test_one_call_for_all_groups_in_order():
  workers = Workers()
  judged = judges.make_judge(workers, TOKENIZER, accuracy="correct")([a_group(), a_group()])
  assert workers.texts == ["12", "12", "3", "?"] * 2
  assert len(judged) == 2
  assert judges.make_judge(workers, TOKENIZER, accuracy="correct")([]) == []


def test_workers_of_a_config():
  section = ml_collections.ConfigDict(
    dict(
      accuracy="right",
      workers=0,
      batch_seconds=5.0,
      answer_seconds=1.0,
      timed_out="lowest",
      max_failures=1.0,
      functions=dict(
        right=dict(
          function="posttrain_jax.rewards.verifiers:exact_answer",
          weight=3,
          options=dict(style="answer_line"),
          lowest=-1,
        ),
        form=dict(function="posttrain_jax.rewards.verifiers:answer_line_format", weight=0.5, options={}),
      ),
    )
  )
  with judges.make_workers(parse(judges.RewardSettings, section, "rewards")) as workers:
    assert [(function.name, function.weight) for function in workers.functions] == [("form", 0.5), ("right", 3.0)]
    assert [function.lowest for function in workers.functions] == [0.0, -1.0]
    texts, rows = ["Answer: 4", "Answer: 5", "4"], [{"answer": "4"}] * 3
    np.testing.assert_array_equal(workers.score(1, texts, rows), [1, 0, 0])
    np.testing.assert_array_equal(workers.score(0, texts, rows), [1, 1, 0])


def test_a_reward_model_judges_prompts_without_an_answer_alone():
  function = RewardFunction("posttrain_jax.rewards.verifiers:exact_answer", options={"style": "any"}, name="correct")
  known, unknown = a_group(), dataclasses.replace(a_group(), prompt=Prompt(1, (2, 3), {"prompt": "hello"}))
  scores = lambda groups: [np.array([0.5, np.nan, 2, 3]) for _ in groups]  # noqa: E731
  with RewardWorkers([function], workers=0) as workers:
    penalty = OverlongPenalty(max_length=3, buffer=1)
    verify = judges.make_judge(workers, TOKENIZER, accuracy="correct", penalty=penalty, by_model=True)
    first, second = judges.judge_by_model(verify, scores)([known, unknown])
    alone = verify([unknown])[0]
  np.testing.assert_array_equal(first.accuracy, [1, 1, 0, 0])
  np.testing.assert_array_equal(second.valid, [True, False, True, True])
  np.testing.assert_array_equal(second.rewards, [-0.5, 0, 2, 3])  # the penalty is in it
  assert np.isnan(second.accuracy).all() and np.isnan(alone.accuracy).all()
  found = metrics.describe([], [(second, "trained")], collections.Counter(), EngineStats(), version=0)
  assert found["reward/invalid"] == 1 and np.isnan(found["accuracy/mean"])
  assert found["reward/reward_model"] == pytest.approx(5.5 / 3)


class Rules:
  """Judges answers to sums, and the form of all answers."""

  functions = tuple(
    RewardFunction(path="-", weight=weight, options={}, name=name) for name, weight in (("correct", 2.0), ("form", 1.0))
  )

  def judge(self, index, texts, rows):
    is_sum = np.array([row["kind"] == "sum" for row in rows])
    rewards = np.array([float(text == row["answer"]) for text, row in zip(texts, rows)]) if index == 0 else 0.5
    judged = is_sum if index == 0 else np.ones(len(texts), bool)
    return Scores(np.where(judged, rewards, np.nan), ~judged, np.zeros(len(texts), bool), {})


def test_rules_judge_what_they_can_and_the_model_the_rest():
  asked = []

  def score(groups):
    asked.extend(group.prompt.index for group in groups)
    return [np.array([3.0, np.nan], np.float32) for _ in groups]

  answers = (drawn("12"), drawn("3"))
  groups = [Group(Prompt(i, (2,), {"answer": "12", "kind": kind}), answers) for i, kind in enumerate(("sum", "free"))]
  verify = judges.make_judge(Rules(), TOKENIZER, accuracy="correct", by_model=True)
  checked, free = judges.judge_by_model(verify, score, unchecked_by="correct")(groups)
  assert asked == [1]
  np.testing.assert_array_equal(checked.rewards, [2.5, 0.5])
  np.testing.assert_array_equal(checked.accuracy, [1, 0])
  assert checked.valid.all()
  np.testing.assert_array_equal(checked.components["reward_model"], [np.nan, np.nan])  # the same names in all groups
  np.testing.assert_array_equal(free.rewards, [3.5, 0])  # the score besides the form
  np.testing.assert_array_equal(free.valid, [True, False])
  np.testing.assert_array_equal(free.accuracy, [np.nan, 0])
  np.testing.assert_array_equal(free.components["reward_model"], [3, np.nan])


def test_what_all_rules_abstain_on_is_left_to_the_model():
  class Sums(Rules):
    functions = Rules.functions[:1]

  group = Group(Prompt(0, (2,), {"answer": "12", "kind": "free"}), (drawn("12"),))
  options = dict(accuracy="correct", by_model=True)
  judge = judges.judge_by_model(judges.make_judge(Sums(), TOKENIZER, **options), lambda groups: [np.array([3.0])])
  assert judge([group])[0].rewards == [3] and judge([group])[0].valid.all()
  assert not judges.make_judge(Sums(), TOKENIZER, accuracy="correct")([group])[0].valid.any()
