import numpy as np

from posttrain_jax.reports import silence

NAN = np.nan


def columns(silent):
  return {
    "step": np.arange(len(silent)),
    "sampling/trained_nothing": np.array(silent),
    "sampling/dropped_all_wrong": np.array([NAN, 16, 16, 3][: len(silent)]),
    "truncated/share": np.array([NAN, 0.5, 0.5, 0][: len(silent)]),
  }


def test_a_run_that_trained_nothing_says_so_at_the_top():
  (line,) = silence.warnings(columns([NAN, 1, 1]))
  assert line == (
    "No step trained anything (2 of 2): 32 groups all wrong; 50% of the answers truncated. The policy did not change."
  )


def test_some_steps():
  (line,) = silence.warnings(columns([NAN, 0, 1, 0]))
  assert line.startswith("1 of 3 steps trained nothing, the first of them step 2: 16 groups all wrong; 50% ")


def test_nothing_to_say():
  assert silence.warnings(columns([NAN, 0, 0])) == silence.warnings({}) == []
