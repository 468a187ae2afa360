"""Tests the parts of the study of over-optimisation."""

import numpy as np

from posttrain_jax.studies import overoptimization_parts
from posttrain_jax.types import Prompt


def test_equal_answers_are_scored_once_and_each_sample_gets_its_own_score():
  class Sums:
    rows = ()

    def score(self, rows):
      self.rows = rows
      return np.array([sum(row) for row in rows], np.float32)

  class Given:
    held_out = (Prompt(0, (10,), {}), Prompt(1, (20, 30), {}))

  tokens = np.array([[[1, 2], [1, 2], [1, 0]], [[1, 2], [0, 0], [1, 2]]], np.int32)
  lengths, proxy = np.array([[2, 2, 1], [2, 1, 2]]), Sums()
  scores = overoptimization_parts.score(Given, proxy, {"tokens": tokens, "lengths": lengths})
  assert scores.tolist() == [[13, 13, 11], [53, 50, 53]]
  assert len(proxy.rows) == 4
