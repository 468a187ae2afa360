import dataclasses
import threading
import time

import numpy as np
import pytest
from absl import logging

from posttrain_jax.rewards.failures import FailureLimit, RewardsFailed
from posttrain_jax.rewards.judge import (
  OverlongPenalty,
  TimedOut,
  VerifierJudge,
  check_reference,
  timed_out,
  without_verdict,
)
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers
from posttrain_jax.types import Answer, FinishReason, Group, InputError, Prompt

EXACT = "posttrain_jax.rewards.verifiers:exact_answer"
FORMAT = "posttrain_jax.rewards.verifiers:answer_line_format"


def fails_on_bad(texts, rows):
  """Fails for some texts: a text with 'bad' in it gets no reward."""
  del rows
  return [float("nan") if "bad" in text else 1e30 if "huge" in text else 0.5 for text in texts]


def of_domain(texts, rows, *, domain):
  """Abstains outside its domain."""
  return [float(text == "good") if row["domain"] == domain else None for text, row in zip(texts, rows)]


def hangs(texts, rows):
  """Hangs on one text."""
  del rows
  if "hang" in texts:
    time.sleep(60)
  return [1.0] * len(texts)


def group(index, row, texts, lengths=None):
  answers = []
  for length in lengths or [3] * len(texts):
    zeros = np.zeros(length, np.float32)
    answers.append(Answer(np.zeros(length, np.int32), zeros, zeros, np.zeros(length, np.int32), FinishReason.EOS))
  return Group(Prompt(index, (1, 2), row), tuple(answers), tuple(texts))


def workers(*functions):
  return RewardWorkers(functions, workers=0)


def test_components_weights_and_accuracy():
  functions = [
    RewardFunction(EXACT, weight=2.0, options={"style": "any", "incorrect": -1}),
    RewardFunction(FORMAT, weight=0.25),
    RewardFunction(EXACT, weight=0.0, name="strict"),
  ]
  groups = [
    group(7, {"answer": "5"}, ["Answer: 5", "5", "Answer: 6", ""]),
    group(8, {"answer": "6"}, ["Answer: 5", "6"]),
  ]
  judged = VerifierJudge(workers(*functions), accuracy="exact_answer")(groups)
  # 2 * (1 or -1) + .25 * (line or not)
  np.testing.assert_array_equal(judged[0].rewards, np.float32([2.25, 2, -1.75, -2]))
  np.testing.assert_array_equal(judged[1].rewards, np.float32([-1.75, 2]))
  np.testing.assert_array_equal(judged[0].components["exact_answer"], np.float32([1, 1, -1, -1]))
  np.testing.assert_array_equal(judged[0].components["answer_line_format"], np.float32([1, 0, 1, 0]))
  np.testing.assert_array_equal(judged[0].components["strict"], np.float32([1, 0, 0, 0]))
  np.testing.assert_array_equal(judged[0].accuracy, np.float32([1, 1, 0, 0]))  # -1 is clipped
  np.testing.assert_array_equal(judged[1].accuracy, np.float32([0, 1]))
  for before, after in zip(groups, judged):
    assert after.valid.all() and after.valid.dtype == bool
    assert after.prompt is before.prompt and after.answers is before.answers and after.texts is before.texts
    assert before.rewards is None
    for array in (after.rewards, after.accuracy, *after.components.values()):
      assert array.dtype == np.float32 and array.shape == (len(after.answers),)


def test_the_overlong_penalty_is_in_the_reward_and_its_own_component_but_not_in_the_accuracy():
  # max_length 10, buffer 4: 0 up to 6 tokens, -1/4 for each token more.
  groups = [group(0, {"answer": "5"}, ["Answer: 5"] * 4, lengths=[6, 7, 10, 1])]
  pool = workers(RewardFunction(EXACT))
  plain = VerifierJudge(pool, accuracy="exact_answer")(groups)[0]
  shaped = VerifierJudge(pool, accuracy="exact_answer", overlong=OverlongPenalty(10, 4, weight=2.0))(groups)[0]
  np.testing.assert_array_equal(shaped.components["overlong"], np.float32([0, -0.25, -1, 0]))
  np.testing.assert_array_equal(shaped.rewards, np.float32([1, 0.5, -1, 1]))
  np.testing.assert_array_equal(shaped.accuracy, plain.accuracy)
  np.testing.assert_array_equal(plain.rewards, np.float32([1, 1, 1, 1]))
  assert "overlong" not in plain.components


def test_a_failed_function_makes_the_answer_invalid_and_no_other():
  functions = [RewardFunction(EXACT), RewardFunction(f"{__name__}:fails_on_bad", weight=2.0)]
  groups = [group(0, {"answer": "5"}, ["Answer: 5", "bad\nAnswer: 5", "x"]), group(1, {}, ["Answer: 5"] * 2)]
  overlong = OverlongPenalty(10, 4)
  judged = VerifierJudge(workers(*functions), accuracy="exact_answer", overlong=overlong)(groups)
  np.testing.assert_array_equal(judged[0].valid, [True, False, True])
  np.testing.assert_array_equal(judged[0].rewards, np.float32([2, 0, 1]))
  np.testing.assert_array_equal(judged[0].accuracy, np.float32([1, 0, 0]))
  np.testing.assert_array_equal(judged[0].components["failed"], np.float32([0, 1, 0]))
  np.testing.assert_array_equal(without_verdict(judged[0]), [False, True, False])
  np.testing.assert_array_equal(judged[0].components["exact_answer"], np.float32([1, 1, 0]))
  np.testing.assert_array_equal(judged[0].components["fails_on_bad"], np.float32([0.5, np.nan, 0.5]))
  np.testing.assert_array_equal(judged[1].valid, [False, False])  # the row has no reference
  np.testing.assert_array_equal(judged[1].rewards, np.float32([0, 0]))
  np.testing.assert_array_equal(judged[1].components["overlong"], np.float32([0, 0]))


def test_a_failure_of_weight_0_does_not_matter_unless_it_is_the_accuracy():
  functions = [RewardFunction(EXACT), RewardFunction(f"{__name__}:fails_on_bad", weight=0.0)]
  groups = [group(0, {"answer": "5"}, ["Answer: 5", "bad\nAnswer: 5", "x"])]
  judged = VerifierJudge(workers(*functions), accuracy="exact_answer")(groups)[0]
  np.testing.assert_array_equal(judged.valid, [True] * 3)
  np.testing.assert_array_equal(judged.rewards, np.float32([1, 1, 0]))
  assert "failed" not in judged.components and not without_verdict(judged).any()
  judged = VerifierJudge(workers(*functions), accuracy="fails_on_bad")(groups)[0]
  np.testing.assert_array_equal(judged.valid, [True, False, True])


def test_functions_for_two_domains_judge_each_its_own_rows():
  functions = [
    RewardFunction(f"{__name__}:of_domain", options={"domain": name}, name=name) for name in ("sums", "code")
  ]
  groups = [group(n, {"domain": name}, ["good", "poor"]) for n, name in enumerate(("sums", "code", "poems"))]
  sums, code, poems = VerifierJudge(workers(*functions), accuracy="sums")(groups)
  for each in (sums, code):
    np.testing.assert_array_equal(each.valid, [True, True])
    np.testing.assert_array_equal(each.rewards, np.float32([1, 0]))
    np.testing.assert_array_equal(each.accuracy, np.float32([1, 0]))  # of the one that does not abstain
  np.testing.assert_array_equal(code.components["sums"], np.float32([np.nan, np.nan]))
  np.testing.assert_array_equal(poems.valid, [False, False])  # all abstain
  assert without_verdict(poems).all() and not without_verdict(code).any()


def test_an_answer_that_runs_out_of_time_is_invalid_or_has_the_lowest_reward():
  functions = [RewardFunction(f"{__name__}:hangs", weight=2.0, lowest=-1.0)]
  groups = [group(0, {}, ["a", "hang", "b"])]
  with RewardWorkers(functions, batch_seconds=1.0, answer_seconds=0.3) as pool:
    invalid = VerifierJudge(pool, accuracy="hangs")(groups)[0]
    lowest = VerifierJudge(pool, accuracy="hangs", timed_out=TimedOut.LOWEST)(groups)[0]
  np.testing.assert_array_equal(invalid.valid, [True, False, True])
  np.testing.assert_array_equal(timed_out(invalid), [False, True, False])
  np.testing.assert_array_equal(lowest.valid, [True] * 3)
  np.testing.assert_array_equal(lowest.rewards, np.float32([2, -2, 2]))
  np.testing.assert_array_equal(lowest.accuracy, np.float32([1, 0, 1]))
  np.testing.assert_array_equal(timed_out(lowest), [False, True, False])


def test_a_function_that_fails_on_all_answers_ends_the_run_with_its_own_error():
  judge = VerifierJudge(workers(RewardFunction(EXACT)), accuracy="exact_answer", failures=FailureLimit(1.0))
  judge([group(0, {"answer": "5"}, ["Answer: 5"]), group(1, {}, ["Answer: 5"])])  # not all of them
  with pytest.raises(
    RewardsFailed, match=r"exact_answer: 2 of 2 .*reference answer is None.*data row: {'question': 7}"
  ):
    judge([group(0, {"question": 7}, ["Answer: 5", "6"])])


def test_an_accuracy_out_of_range_is_said(monkeypatch):
  said = []
  monkeypatch.setattr(
    logging, "log_every_n_seconds", lambda level, message, seconds, *args: said.append(message % args)
  )
  functions = [
    RewardFunction(f"{__name__}:fails_on_bad", name="graded"),
    RewardFunction(EXACT, options={"incorrect": -1}),
  ]
  for accuracy in ("graded", "exact_answer"):
    VerifierJudge(workers(*functions), accuracy=accuracy)([group(0, {"answer": "5"}, ["huge"])])
  assert len(said) == 1 and "gave 1e+30: accuracies are clipped" in said[0]


def test_a_reward_that_float32_cannot_hold_is_invalid():
  function = RewardFunction(f"{__name__}:fails_on_bad", weight=1e30, name="big")
  judged = VerifierJudge(workers(function), accuracy="big")([group(0, {}, ["huge", "x"])])[0]
  np.testing.assert_array_equal(judged.valid, [False, True])
  np.testing.assert_array_equal(judged.rewards, np.float32([0, 5e29]))


def test_in_child_processes_from_another_thread():
  groups = [group(n, {"answer": str(n)}, [f"Answer: {n}", "Answer: 3"]) for n in range(6)]
  judged = []
  with RewardWorkers([RewardFunction(EXACT)], workers=2) as pool:
    judge = VerifierJudge(pool, accuracy="exact_answer", overlong=OverlongPenalty(10, 4))
    thread = threading.Thread(target=lambda: judged.extend(judge(groups)))
    thread.start()
    thread.join()
  assert [each.prompt.index for each in judged] == list(range(6))
  np.testing.assert_array_equal([each.accuracy for each in judged], [[1, float(n == 3)] for n in range(6)])


def test_no_groups():
  assert VerifierJudge(workers(RewardFunction(EXACT)), accuracy="exact_answer")([]) == []


def test_bad_settings_are_refused_before_any_answer():
  with pytest.raises(InputError, match=r"accuracy is 'exact'; expected .* exact_answer"):
    VerifierJudge(workers(RewardFunction(EXACT)), accuracy="exact")
  with pytest.raises(InputError, match="overlong"):
    VerifierJudge(workers(RewardFunction(EXACT, name="overlong")), accuracy="overlong", overlong=OverlongPenalty(10, 4))
  with pytest.raises(InputError, match="buffer is 11; expected 0 to max_length = 10"):
    OverlongPenalty(10, 11)
  with pytest.raises(ValueError, match="prompt 3 has 0 texts for 2 answers"):
    VerifierJudge(workers(RewardFunction(EXACT)), accuracy="exact_answer")(
      [dataclasses.replace(group(3, {}, ["a", "b"]), texts=())]
    )


def test_check_reference():
  check_reference({"answer": "#### 5"}, "a.jsonl:1")
  check_reference({"final": 0}, "a.jsonl:1", column="final")
  with pytest.raises(InputError, match=r"a.jsonl:7: no column 'answer'; .*found question, final"):
    check_reference({"question": "", "final": ""}, "a.jsonl:7")
  for reference in ("", None, "#### ", False):
    with pytest.raises(InputError, match=r"^a.jsonl:7: column 'answer': reference answer"):
      check_reference({"answer": reference}, "a.jsonl:7")
