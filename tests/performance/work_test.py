import dataclasses

import jax
import pytest

from posttrain_jax.performance import learning, step
from posttrain_jax.performance.work import Work, random_sampler_params
from posttrain_jax.types import InputError
from tests.performance.small_work import MODEL, WORK


@pytest.mark.parametrize("wrong", [{"prompts": 0}, {"runs": 0}, {"mean_length": -1}])
def test_bad_sizes(wrong):
  (name,) = wrong
  with pytest.raises(InputError, match=f"--{name}=.*expected"):
    Work(MODEL, **wrong)


def test_random_weights_are_the_learners_own():
  """Checks that the sampler's and the learner's logprobs are of the same policy."""
  learner = learning.make_learner(WORK)
  engine_params = random_sampler_params(WORK, learner.mesh)
  handed = step.handover_of(learner, learner.mesh, WORK)(learner.state.params)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
  assert shapes(handed) == shapes(engine_params)


def test_prompts_are_the_same_at_every_attempt():
  first, second = WORK.draw_prompts(), WORK.draw_prompts(1)
  assert [prompt.tokens for prompt in first] == [prompt.tokens for prompt in second]
  assert {prompt.attempt for prompt in second} == {1} and [prompt.index for prompt in first] == list(range(8))
  assert {len(prompt.tokens) for prompt in first} == {3} and WORK.answers == 16


def test_one_id_in_mean_length_ends_an_answer():
  assert WORK.stop_ids == ()
  assert dataclasses.replace(WORK, mean_length=32).stop_ids == (0, 32, 64)  # of 96 ids
