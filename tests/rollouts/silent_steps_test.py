import numpy as np

from posttrain_jax.rollouts import silent_steps
from posttrain_jax.types import Group, Prompt


def test_a_step_trains_nothing_if_no_counted_token_has_an_advantage():
  mask = np.zeros((2, 2, 3), bool)
  mask[0, 0] = True
  assert silent_steps.trained_nothing(np.zeros((2, 2, 1)), mask)
  advantages = np.zeros((2, 2, 1))
  advantages[1, 1] = 1  # of an answer that does not count
  assert silent_steps.trained_nothing(advantages, mask)
  advantages[0, 0] = -1e-3
  assert not silent_steps.trained_nothing(advantages, mask)
  assert silent_steps.trained_nothing(advantages, np.zeros_like(mask))


def test_the_warning_has_the_reason_and_samples_with_extracted_answers_and_rewards():
  rewards, valid = np.array([-1, 0], np.float32), np.array([True, False])
  group = Group(
    Prompt(0, (1,), {"answer": "3"}), (None, None), ("so\nAnswer: 4", "?" * 500), {}, rewards, rewards, valid
  )
  metrics = {"sampling/dropped_all_wrong": 14, "sampling/dropped_invalid": 2, "truncated/share": 0.25}
  lines = silent_steps.warning(7, metrics, [group], lambda text: "4" if "4" in text else None).split("\n")
  assert lines[0] == (
    "warning: step 7 trained nothing: 14 groups all wrong, 2 groups without a verdict; 25% of the answers truncated. "
    "The first answers:"
  )
  assert lines[1] == "  'so Answer: 4': read as '4', reference '3', reward -1"
  assert lines[2].endswith("?': read as None, reference '3', reward none") and len(lines[2]) < 300
  assert silent_steps.reason({}) == "all rewards of a group are equal"


def test_warnings_get_rare_and_the_end_says_it_again():
  steps = silent_steps.SilentSteps()
  assert [steps.add(True) for _ in range(5)] == [True, True, False, True, False]
  assert "none of the 5 steps trained anything" in steps.ending
  assert not steps.add(False) and steps.ending == ""
  assert steps.add(True) and steps.ending == "warning: the last 1 steps trained nothing"


def test_the_lines_of_a_step():
  steps, timed_out = silent_steps.SilentSteps(), {"reward/timed_out": 0.5}
  nothing, something = {silent_steps.TRAINED_NOTHING: 1.0}, {silent_steps.TRAINED_NOTHING: 0.0}
  heads = lambda step, metrics: [line[:14] for line in steps.lines(step, metrics, [], str)]  # noqa: E731
  assert [heads(1, something), steps.shown] == [[], False]
  assert [heads(2, nothing | timed_out), steps.shown] == [["warning: step ", "step 2: a veri"], True]
  assert [heads(3, nothing), steps.shown] == [["warning: step "], True]
  assert [heads(4, nothing | timed_out), steps.shown] == [["step 4: a veri"], False]


def test_timeouts_are_said_if_there_are_any():
  assert silent_steps.timeouts(3, {"reward/timed_out": 0.125}).startswith("step 3: a verifier ran out of time on 12.5%")
  assert silent_steps.timeouts(3, {"reward/timed_out": 0.0}) == silent_steps.timeouts(3, {}) == ""
