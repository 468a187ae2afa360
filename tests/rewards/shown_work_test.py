import pytest

from posttrain_jax.rewards.shown_work import shown_work
from posttrain_jax.types import InputError


@pytest.mark.parametrize(
  "text, expected",
  [
    (" Answer: 3", 0.0),
    ("+8=5 Answer: 3", 0.5),
    ("+8=5-2=3 Answer: 3", 1.0),
    ("+8=5-2=3 Wait, +8=5 Answer: 3", 0.5),
    ("+8=5-2=3 Wait, +8=5-2=3 Answer: 3", 0.0),
    ("+8=5-2=3 Wait, +8=5-2=3 Wait, +8=5-2=3", -1.0),
    ("=" * 20, -1.0),
  ],
)
def test_each_step_once_is_best(text, expected):
  assert shown_work([text], [{"difficulty": 2}]) == [expected]


def test_the_number_of_steps_is_the_rows_own():
  assert shown_work(["+8=5"] * 2, [{"steps": 1}, {"steps": 4}], column="steps") == [1.0, 0.25]
  assert shown_work([], []) == []


@pytest.mark.parametrize("steps", [None, 0, "2"])
def test_a_row_without_a_number_of_steps_is_refused(steps):
  with pytest.raises(InputError, match=r"difficulty is .*, expected the number of a problem's steps"):
    shown_work(["+8=5"], [{"difficulty": steps}])
