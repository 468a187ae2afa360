import numpy as np
import pytest

from posttrain_jax.rollouts.verdicts import Verdict, verdict
from posttrain_jax.types import Group, Prompt


def judged_group(accuracy, valid=None):
  accuracy = np.array(accuracy, np.float32)
  valid = np.ones(accuracy.shape, bool) if valid is None else np.array(valid)
  return Group(Prompt(0, (1,), {}), (None,) * len(accuracy), accuracy=accuracy, rewards=accuracy, valid=valid)


@pytest.mark.parametrize(
  ("accuracy", "valid", "expected"),
  [
    ([1, 0, 0], None, Verdict.TRAINED),
    ([1, 1, 1], None, Verdict.ALL_RIGHT),
    ([0, 0, 0], None, Verdict.ALL_WRONG),
    ([1, 1, 0], [True, True, False], Verdict.ALL_RIGHT),  # the failed verdict is not a wrong answer
    ([0, 0, 0], [True, True, False], Verdict.ALL_WRONG),
    ([1, 0, 0], [True, False, False], Verdict.INVALID),  # one answer is no group
    ([1, 0, 0], [False, False, False], Verdict.INVALID),
  ],
)
def test_verdict(accuracy, valid, expected):
  assert verdict(judged_group(accuracy, valid)) == expected
