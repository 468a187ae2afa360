import numpy as np
import pytest

from posttrain_jax.rewards.failures import FailureLimit, RewardsFailed


def add(limit, failed, name="f", abstained=0):
  failed = np.array(failed, bool)
  rows = [{"prompt": i, "text": "x" * 1000} for i in range(len(failed))]
  limit.add(name, failed, rows, {int(i): f"KeyError: {i}" for i in np.flatnonzero(failed)}, len(failed) - abstained)


def test_it_waits_for_as_many_answers_as_a_step_has():
  limit = FailureLimit(1.0, answers=4)
  add(limit, [1, 1])
  with pytest.raises(
    RewardsFailed, match=r"function f: 4 of 4 answers failed .*KeyError: 0; data row: {'prompt': 0"
  ) as e:
    add(limit, [1, 1])
  assert "\n" not in str(e.value) and len(str(e.value)) < 600


def test_an_answer_that_is_judged_saves_the_step_and_counting_starts_again():
  limit = FailureLimit(1.0, answers=4)
  add(limit, [1, 1, 1, 0])
  add(limit, [1, 1, 1])
  with pytest.raises(RewardsFailed):
    add(limit, [1])


def test_functions_are_counted_apart():
  limit = FailureLimit(1.0, answers=2)
  add(limit, [1], name="f")
  add(limit, [0], name="g")
  with pytest.raises(RewardsFailed, match="function f: 2 of 2"):
    add(limit, [1], name="f")


def test_the_share_is_of_the_answers_that_it_did_not_abstain_from():
  limit = FailureLimit(0.5)
  add(limit, [1, 0, 0, 0])
  add(limit, [0, 0])
  with pytest.raises(RewardsFailed, match="1 of 2"):
    add(limit, [1, 0, 0, 0], abstained=2)
  add(FailureLimit(2.0), [1, 1, 1])  # never
