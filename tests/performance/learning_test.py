import dataclasses

import numpy as np
import pytest

from posttrain_jax.performance import learning
from tests.performance.small_work import WORK, check_times


def test_the_times_are_positive_and_the_last_call_is_traced(tmp_path):
  found = learning.learning(WORK, str(tmp_path))
  check_times(found, tmp_path)
  # 8 · 2 answers of 4 tokens; the printed seconds are rounded to microseconds.
  assert found["answer_tokens_per_second"] == pytest.approx(64 / found["seconds"], rel=0.01)
  assert found["share_of_limit"] == pytest.approx(found["limit_seconds"] / found["seconds"], rel=0.05, abs=1e-4)


def test_a_batch_of_full_answers_of_which_half_are_right():
  batch = learning.random_batch(WORK)
  assert batch.prompts.shape == (8, 3) and batch.answers.shape == batch.mask.shape == (8, 2, 4)
  assert batch.mask.all() and (batch.prompt_lengths == 3).all()
  assert batch.answers.min() >= 0 and batch.answers.max() < 96 and len(np.unique(batch.answers)) > 30
  np.testing.assert_array_equal(batch.advantages, np.broadcast_to([[[1.0], [-1.0]]], (8, 2, 1)))
  np.testing.assert_allclose(np.exp(batch.sampler_logprobs), 1 / 96, rtol=1e-5)


def test_answers_of_unequal_length():
  work = dataclasses.replace(WORK, prompts=32, mean_length=2, tokens_per_micro_batch=12)
  batch = learning.random_batch(work)
  lengths = batch.mask.sum(-1)
  assert lengths.min() == 1 and len(np.unique(lengths)) > 2 and lengths.max() <= 4
  assert sorted(np.unique(batch.prompt_lengths)) == [2, 3]
  ((_, packing),) = learning.make_learner(work).scorer.split(batch)
  tokens = lengths.sum() + (batch.prompt_lengths - 1).sum()
  assert (packing.sizes.tokens, packing.sizes.shards) == (12, 8)
  assert -(-tokens // (12 * 8)) <= packing.count < packing.sizes.micro_batches


def test_the_learner_updates_its_parameters_on_the_batch():
  learner = learning.make_learner(WORK)
  assert learner.version == 0
  learner.train(learning.random_batch(WORK))
  assert learner.version == 1
