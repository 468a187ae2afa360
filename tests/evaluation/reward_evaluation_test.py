"""Tests the margins of held-out pairs, and the shift to demonstrations."""

import dataclasses

import jax
import numpy as np
import pytest

from posttrain_jax.data.preferences import Comparison
from posttrain_jax.evaluation.reward_evaluation import RewardEvaluation
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.state import TrainState
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from tests.random_params import random_params

MODEL = TransformerConfig(11, 1, 8, 16, 2, 1, 4, scalar_head=True)
PAIRS = [
  Comparison((1, 2), (np.array([3, 4]), np.array([5])), (0, 1)),
  Comparison((1,), (np.array([6]), np.array([7, 8, 9])), (0, 1)),
]
ROWS = [np.array([1, 2, 3], np.int32), np.array([4, 5], np.int32)]


def evaluation(pairs, rows):
  return RewardEvaluation(MODEL, pairs, rows, make_mesh({}, jax.devices()[:1]), Division(2, 9), pad_id=0)


def test_a_shift_leaves_margins_and_makes_demonstrations_average_0():
  state, measured = TrainState(np.int32(0), random_params(MODEL), ()), evaluation(PAIRS, ROWS)
  metrics, shifted = measured(state)
  assert metrics["eval/heldout/pairs"] == 2 and metrics["eval/demonstrations/mean"] != 0
  np.testing.assert_allclose(measured.margins(shifted.params), measured.margins(state.params), rtol=1e-5, atol=1e-6)
  again, _ = measured(shifted)
  assert again["eval/demonstrations/mean"] == pytest.approx(0, abs=1e-6)
  assert dataclasses.replace(shifted, params=state.params) == state


def test_without_pairs_there_are_no_margins():
  assert evaluation([], ROWS).margins(random_params(MODEL)) is None
