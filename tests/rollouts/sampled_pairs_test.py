"""Tests how sampled groups become pairs: which answers, and where their tokens go."""

import numpy as np

from posttrain_jax.rollouts.sampled_pairs import best_and_worst, stack_answers
from tests.pipelines import made_groups


def group(rewards, valid=None, prompt=(5, 6)):
  """Makes a group whose answer i has i + 1 tokens, all 10 + i."""
  answers = [made_groups.answer([10 + i] * (i + 1)) for i in range(len(rewards))]
  return made_groups.group(answers, rewards, valid=valid, prompt=prompt)


def test_the_best_and_the_worst_of_each_group_the_first_drawn_among_equals():
  groups = [group([0, 1, 1, 0]), group([0.5, 0.2, 0.9, 0.1])]
  assert [pair for _, *pair in best_and_worst(groups)] == [[1, 0], [2, 3]]
  assert [each for each, *_ in best_and_worst(groups)] == groups


def test_groups_whose_answers_are_alike_make_no_pair():
  assert best_and_worst([group([1, 1, 1]), group([0, 0])]) == []
  assert best_and_worst([]) == []


def test_answers_without_a_reward_are_left_out():
  one = group([np.nan, 0.3, 0.7, np.nan], valid=[False, True, True, False])
  assert [pair for _, *pair in best_and_worst([one])] == [[2, 1]]
  assert best_and_worst([group([5.0, 1.0], valid=[True, False])]) == []
  assert best_and_worst([group([5.0, 1.0], valid=[False, False])]) == []


def test_stacking():
  first, second = group([0, 1, 0]), group([1, 0], prompt=(7,))
  batch = stack_answers([(first, (2, 0)), (second, (0, 1))], count=4, answers=2, prompt_width=3, answer_width=4)
  np.testing.assert_array_equal(batch.index, [0, 1, -1, -1])
  np.testing.assert_array_equal(batch.prompts, [[5, 6, 0], [7, 0, 0], [0, 0, 0], [0, 0, 0]])
  np.testing.assert_array_equal(batch.prompt_lengths, [2, 1, 1, 1])
  np.testing.assert_array_equal(batch.answers[0], [[12, 12, 12, 0], [10, 0, 0, 0]])
  np.testing.assert_array_equal(batch.answers[1], [[10, 0, 0, 0], [11, 11, 0, 0]])
  np.testing.assert_array_equal(batch.lengths, [[3, 1], [1, 2], [0, 0], [0, 0]])
  np.testing.assert_array_equal(batch.mask.sum(-1), batch.lengths)
  np.testing.assert_array_equal(batch.mask, np.arange(4) < batch.lengths[..., None])
  np.testing.assert_array_equal(batch.preferred[:2], [[[False, True], [False, False]]] * 2)
  assert not batch.preferred[2:].any() and not batch.margins.any()
