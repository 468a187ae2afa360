import dataclasses
import threading

import numpy as np
import pytest

from posttrain_jax.rewards.judge import OverlongPenalty, VerifierJudge, check_reference
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers
from posttrain_jax.types import Answer, FinishReason, Group, InputError, Prompt

EXACT = "posttrain_jax.rewards.verifiers:exact_answer"
FORMAT = "posttrain_jax.rewards.verifiers:answer_line_format"


def fails_on_bad(texts, rows):
  """Fails for some texts: a text with 'bad' in it gets no reward."""
  del rows
  return [float("nan") if "bad" in text else 1e30 if "huge" in text else 0.5 for text in texts]


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
  functions = [RewardFunction(EXACT), RewardFunction(f"{__name__}:fails_on_bad", weight=0.0)]
  groups = [group(0, {"answer": "5"}, ["Answer: 5", "bad\nAnswer: 5", "x"]), group(1, {}, ["Answer: 5"] * 2)]
  overlong = OverlongPenalty(10, 4)
  judged = VerifierJudge(workers(*functions), accuracy="exact_answer", overlong=overlong)(groups)
  np.testing.assert_array_equal(judged[0].valid, [True, False, True])
  np.testing.assert_array_equal(judged[0].rewards, np.float32([1, 0, 0]))
  np.testing.assert_array_equal(judged[0].accuracy, np.float32([1, 0, 0]))
  np.testing.assert_array_equal(judged[0].components["exact_answer"], np.float32([1, 1, 0]))
  np.testing.assert_array_equal(judged[0].components["fails_on_bad"], np.float32([0.5, np.nan, 0.5]))
  np.testing.assert_array_equal(judged[1].valid, [False, False])  # the row has no reference
  np.testing.assert_array_equal(judged[1].rewards, np.float32([0, 0]))
  np.testing.assert_array_equal(judged[1].components["overlong"], np.float32([0, 0]))


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
