import dataclasses

import jax
import numpy as np
import pytest

from posttrain_jax.losses import aggregate
from posttrain_jax.pipelines.policy_batches import RolloutShape, policy_batch, stack_groups, training_mask
from posttrain_jax.types import FinishReason
from tests.learner.settings import make_objective
from tests.learner.small_policy import make_learner
from tests.pipelines.made_groups import answer, group

PER_TOKEN = ("answers", "generated", "sampler_logprobs", "drawn_logprobs", "versions")
LONG = FinishReason.LENGTH


def stacked(groups, *, count=None, group_size=2, prompt_width=5, answer_width=6):
  shape = RolloutShape(len(groups) if count is None else count, group_size, prompt_width, answer_width)
  return stack_groups(groups, shape)


def mixed():
  """Makes two groups of two; one answer of each is truncated, and all lengths differ."""
  first = group([answer([7, 8, 1], version=2), answer([9, 9, 9, 9, 9, 9], reason=LONG)], [1, 0.25])
  second = group([answer([1]), answer([8, 7, 6, 5, 4, 3], reason=LONG)], [0.5, 1], index=3, prompt=(2,))
  return [first, second]


def test_groups_are_padded_to_the_right():
  groups = mixed()
  rollout = stacked(groups)
  np.testing.assert_array_equal(rollout.prompts, [[4, 5, 6, 0, 0], [2, 0, 0, 0, 0]])
  np.testing.assert_array_equal(rollout.prompt_lengths, [3, 1])
  np.testing.assert_array_equal(rollout.lengths, [[3, 6], [1, 6]])
  np.testing.assert_array_equal(rollout.finish_reasons, [[FinishReason.EOS, LONG]] * 2)
  for p, each in enumerate(groups):
    for g, drawn in enumerate(each.answers):
      n = len(drawn.tokens)
      np.testing.assert_array_equal(rollout.answers[p, g, :n], drawn.tokens)
      np.testing.assert_array_equal(rollout.sampler_logprobs[p, g, :n], drawn.sampler_logprobs)
      np.testing.assert_array_equal(rollout.drawn_logprobs[p, g, :n], drawn.drawn_logprobs)
      np.testing.assert_array_equal(rollout.versions[p, g, :n], drawn.versions)
      assert rollout.generated[p, g, :n].all()
      assert not any(getattr(rollout, name)[p, g, n:].any() for name in PER_TOKEN)
  np.testing.assert_array_equal(rollout.rewards, [[1, 0.25], [0.5, 1]])
  np.testing.assert_array_equal(rollout.accuracy, rollout.rewards)
  assert rollout.valid.all()
  assert {getattr(rollout, name).dtype for name in ("answers", "lengths", "versions")} == {np.dtype(np.int32)}
  assert {getattr(rollout, name).dtype for name in ("rewards", "sampler_logprobs")} == {np.dtype(np.float32)}


def test_tokens_put_in_by_a_tool_are_there_but_not_trained_on():
  # The policy drew 7, the tool wrote 8 9, the policy drew EOS.
  asked = answer([7, 8, 9, 1], version=5, generated=[True, False, False, True])
  rollout = stacked([group([asked, answer([2, 1])], [1, 0])])
  np.testing.assert_array_equal(rollout.answers[0, 0], [7, 8, 9, 1, 0, 0])
  np.testing.assert_array_equal(rollout.generated[0, 0], [True, False, False, True, False, False])
  assert rollout.lengths[0, 0] == 4
  for name in ("sampler_logprobs", "drawn_logprobs", "versions"):
    values = getattr(rollout, name)[0, 0]
    assert not values[1:3].any() and values[[0, 3]].all(), name
  mask = training_mask(rollout, overlong_filter=False)
  np.testing.assert_array_equal(mask[0], [[1, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0]])


def test_groups_that_are_missing_are_rows_without_a_token():
  rollout = stacked(mixed()[:1], count=3)
  np.testing.assert_array_equal(rollout.lengths[1:], 0)
  np.testing.assert_array_equal(rollout.prompt_lengths, [3, 1, 1])  # a model cannot run an empty prompt
  np.testing.assert_array_equal(rollout.finish_reasons[1:], FinishReason.CANCELLED)
  assert not rollout.valid[1:].any() and not rollout.generated[1:].any()
  assert not training_mask(rollout, overlong_filter=False)[1:].any()
  assert not training_mask(stacked([], count=2), overlong_filter=True).any()


def test_answers_without_a_reward_are_not_trained_on():
  rollout = stacked([group([answer([7, 1]), answer([8, 9, 1])], [1, 1], valid=[True, False])])
  np.testing.assert_array_equal(
    training_mask(rollout, overlong_filter=False)[0], [[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
  )


def test_overlong_filtering_takes_answers_out_of_numerator_and_denominator():
  rollout = stacked(mixed())
  losses = np.random.default_rng(0).normal(size=rollout.answers.shape).astype(np.float32)
  mask = training_mask(rollout, overlong_filter=True)
  kept = np.concatenate([losses[0, 0, :3], losses[1, 0, :1]])  # what is left when the truncated are cut away
  assert float(aggregate.token_mean(losses, mask)) == pytest.approx(kept.mean(), abs=1e-6)
  everything = np.concatenate([kept, losses[0, 1], losses[1, 1]])
  unfiltered = training_mask(rollout, overlong_filter=False)
  assert float(aggregate.token_mean(losses, unfiltered)) == pytest.approx(everything.mean(), abs=1e-6)
  poisoned = np.where(mask, losses, np.nan)
  assert float(aggregate.token_mean(poisoned, mask)) == pytest.approx(kept.mean(), abs=1e-6)


def test_only_running_into_the_cap_is_overlong():
  # As long as the cap allows, but its last token is EOS.
  rollout = stacked([group([answer([3, 3, 3, 3, 3, 1]), answer([3] * 6, reason=LONG)], [1, 0])])
  np.testing.assert_array_equal(training_mask(rollout, overlong_filter=True).any(-1), [[True, False]])


def test_everything_filtered_is_a_loss_of_zero():
  rollout = stacked([group([answer([3] * 6, reason=LONG)] * 2, [1, 0])])
  mask = training_mask(rollout, overlong_filter=True)
  losses = np.full(mask.shape, np.nan, np.float32)
  value, gradient = jax.value_and_grad(lambda x: aggregate.token_mean(x, mask))(losses)
  assert float(value) == 0 and not np.asarray(gradient).any()


def test_policy_batch():
  rollout = stacked(mixed())
  mask = training_mask(rollout, overlong_filter=True)
  made = policy_batch(rollout, mask)
  for name in ("prompts", "prompt_lengths", "answers", "sampler_logprobs"):
    np.testing.assert_array_equal(getattr(made, name), getattr(rollout, name))
  np.testing.assert_array_equal(made.mask, mask)
  np.testing.assert_array_equal(made.advantages, np.zeros((2, 2, 1), np.float32))
  assert made.old_logprobs is made.reference_logprobs is None  # not computed yet


def test_correct_answers_are_those_that_a_verifier_judged_so():
  # Accuracy, not reward: a penalty for length does not make an answer wrong.
  judged = group([answer([7, 1]), answer([8, 1]), answer([9, 1])], [1.0, 0.5, 1.0], valid=[True, True, False])
  judged = dataclasses.replace(judged, rewards=np.array([-1.0, 2.0, 0.0], np.float32))
  rollout = stacked([judged], count=2, group_size=3)
  made = policy_batch(rollout, training_mask(rollout, overlong_filter=False))
  np.testing.assert_array_equal(made.correct, [[True, False, False], [False] * 3])


def test_a_policy_learns_the_likelihood_of_correct_answers_from_such_a_batch():
  """Sets `objective.nll_on_correct` outside PPO: every loop's batch says which answers are correct."""
  rollout = stacked([*mixed(), *mixed()])
  mask = training_mask(rollout, overlong_filter=False)
  made = policy_batch(rollout, mask)  # its advantages are zeros: this term alone
  learner = make_learner(make_objective(nll_on_correct=0.1))
  right = mask & np.array([[1, 0], [0, 1]] * 2, bool)[..., None]
  nll = -learner.score(made)[right].mean()
  found = learner.train(made)
  assert found["nll/correct"] == pytest.approx(nll, rel=1e-5) and found["loss"] == pytest.approx(0.1 * nll, rel=1e-5)
