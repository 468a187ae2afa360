import dataclasses
import functools
import math

import jax
import numpy as np
import pytest

from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.update import Diverged
from tests.learner import small_policy
from tests.learner.settings import make_objective
from tests.learner.small_policy import TC, G, host, pack

# One size of updates for all tests, so that they share programs: a batch is one update unless a test says otherwise.
P = 2
make_batch = functools.partial(small_policy.make_batch, prompts=P)
make_learner = functools.partial(small_policy.make_learner, per_update=P)


def with_sampler_logprobs(learner, batch):
  """Fills in sampler logprobs as an engine without any mismatch would record them."""
  return dataclasses.replace(batch, sampler_logprobs=np.where(batch.mask, learner.score(batch), 0))


def test_on_policy_update_has_ratio_one_and_no_mismatch():
  learner = make_learner()
  metrics = learner.train(with_sampler_logprobs(learner, make_batch()))
  assert metrics["ratio/max"] == 1
  assert metrics["clip/low"] == metrics["clip/high"] == 0
  assert metrics["correction/weight"] == pytest.approx(1, abs=1e-5)
  assert metrics["mismatch/max_abs_logprob"] < 1e-5
  assert abs(metrics["kl/k1_sampler"]) < 1e-5 and 0 <= metrics["kl/k3_sampler"] < 1e-9
  assert 0 < metrics["entropy"] <= np.log(17) + 1e-6
  assert learner.version == 1


def test_the_first_of_several_updates_may_use_its_own_old_logprobs():
  # Two updates on the same prompts. By hand: the second's old logprobs are those of the parameters before the first.
  half = make_batch()
  twice = jax.tree.map(lambda x: np.concatenate([x, x]), half)
  learner, by_hand = make_learner(), make_learner()
  metrics = learner.train(twice)
  assert metrics["ratio/max"] > 1.001  # the second update is off-policy, and sees it

  old = by_hand.score(half)
  by_hand.train(half)
  part = pack(dataclasses.replace(half, old_logprobs=old))
  with jax.set_mesh(by_hand.mesh):
    by_hand.state, _ = by_hand.update[False](by_hand.state, part)
  for one, other in zip(host(learner.state.params), host(by_hand.state.params)):
    np.testing.assert_array_equal(one, other)


def test_off_policy_program_agrees_with_the_on_policy_one_when_old_is_the_learners():
  batch = make_batch()
  on, off = make_learner(), make_learner()
  on.train(batch)
  part = pack(dataclasses.replace(batch, old_logprobs=off.score(batch)))
  with jax.set_mesh(off.mesh):
    off.state, metrics = off.update[False](off.state, part)
  assert float(metrics["ratio/max"]) == pytest.approx(1, abs=1e-5)
  for one, other in zip(host(on.state.params), host(off.state.params)):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_kl_to_the_reference_is_zero_at_first_and_then_pulls_back():
  objective = make_objective(kl_coefficient=10.0, kl_estimator="k3")
  free, held = make_learner(), make_learner(objective)
  start = host(free.state.params)
  reference = held.scorer.freeze(held.state.params)

  def referenced(batch):
    return dataclasses.replace(batch, reference_logprobs=held.scorer(reference, batch))

  assert held.train(referenced(make_batch()))["kl/reference"] == pytest.approx(0, abs=1e-6)
  free.train(make_batch())
  for step in range(1, 6):
    free.train(make_batch(step))
    metrics = held.train(referenced(make_batch(step)))
  assert metrics["kl/reference"] > 0

  def distance(learner):
    return sum(np.abs(a - b).sum() for a, b in zip(start, host(learner.state.params)))

  assert distance(held) < distance(free)


def test_what_masked_answers_hold_has_no_effect():
  batch = make_batch()
  mask = batch.mask.copy()
  mask[:, -1] = False
  filtered = dataclasses.replace(batch, mask=mask)
  answers, advantages, sampler_logprobs = (x.copy() for x in (batch.answers, batch.advantages, batch.sampler_logprobs))
  answers[:, -1], advantages[:, -1], sampler_logprobs[:, -1] = 3, 1e6, -50
  others = dataclasses.replace(filtered, answers=answers, advantages=advantages, sampler_logprobs=sampler_logprobs)
  one, other = make_learner(), make_learner()
  assert one.train(filtered) == other.train(others)
  for a, b in zip(host(one.state.params), host(other.state.params)):
    np.testing.assert_array_equal(a, b)


def test_nothing_to_train_on_changes_nothing():
  learner = make_learner()
  before = params_sha256(learner.state)
  metrics = learner.train(dataclasses.replace(make_batch(), mask=np.zeros((P, G, TC), bool)))
  assert metrics == {"skipped_updates": 0.0}
  assert params_sha256(learner.state) == before and learner.version == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_left_out_and_counted(poison):
  learner = make_learner()
  learner.train(make_batch())
  before = params_sha256(learner.state)
  advantages = make_batch().advantages.copy()
  advantages[0, 0] = poison
  for count in (1, 2):
    assert learner.train(dataclasses.replace(make_batch(), advantages=advantages))["skipped_updates"] == 1
    assert learner.skipped.in_a_row == count
  assert params_sha256(learner.state) == before and learner.version == 1
  learner.train(make_batch())
  assert learner.skipped.in_a_row == 0 and learner.version == 2


def test_updates_in_a_row_are_counted_within_a_step():
  # Two updates a step, the first of them poisoned each time: never three in a row.
  learner = make_learner()
  advantages = make_batch(prompts=4).advantages.copy()
  advantages[0] = np.nan
  for _ in range(3):
    assert learner.train(dataclasses.replace(make_batch(prompts=4), advantages=advantages))["skipped_updates"] == 1
  advantages[:] = np.nan
  learner.train(dataclasses.replace(make_batch(prompts=4), advantages=advantages))
  with pytest.raises(Diverged, match="3 updates in a row were not finite"):
    learner.train(dataclasses.replace(make_batch(prompts=4), advantages=advantages))


def test_the_state_is_donated_and_the_second_step_compiles_nothing():
  learner = make_learner()
  learner.train(make_batch())
  old = jax.tree.leaves(learner.state.params)[0]
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
  )
  learner.train(make_batch(1))
  assert not compiled
  assert old.is_deleted()


def test_stale_tokens_are_weighted():
  learner = make_learner()
  batch = with_sampler_logprobs(learner, make_batch())
  # old / sampler = e^5, truncated
  stale = dataclasses.replace(batch, sampler_logprobs=batch.sampler_logprobs - 5)
  metrics = learner.train(stale)
  assert metrics["correction/weight"] == pytest.approx(2)
  assert metrics["kl/k1_sampler"] == pytest.approx(-5, abs=1e-4)  # log sampler − log old: the sampler drew them
  assert metrics["kl/k3_sampler"] == pytest.approx(math.exp(5) - 1 - 5, rel=1e-4)


def test_a_kl_term_needs_the_references_logprobs():
  with pytest.raises(ValueError, match="reference_logprobs: missing"):
    make_learner(make_objective(kl_coefficient=0.1)).train(make_batch())


def test_likelihood_of_correct_answers_needs_to_know_which_they_are():
  with pytest.raises(ValueError, match="correct: missing, the objective has nll_on_correct"):
    make_learner(make_objective(nll_on_correct=0.1)).train(make_batch())


def test_epochs_in_given_orders():
  # Two epochs of two updates, the second in another order. By hand: all old logprobs are those before the first update.
  batch, orders = make_batch(prompts=4), [np.array([2, 0, 3, 1]), np.array([1, 3, 0, 2])]
  learner, by_hand = make_learner(), make_learner()
  metrics = learner.train(batch, order=orders)
  assert learner.version == 4 and metrics["ratio/max"] > 1.001

  batch = dataclasses.replace(batch, old_logprobs=by_hand.score(batch))
  for i, pair in enumerate(np.concatenate(orders).reshape(4, 2)):
    part = jax.tree.map(lambda x, pair=pair: x[pair], batch)
    part = pack(dataclasses.replace(part, old_logprobs=None) if i == 0 else part)
    with jax.set_mesh(by_hand.mesh):
      by_hand.state, _ = by_hand.update[i == 0](by_hand.state, part)
  for one, other in zip(host(learner.state.params), host(by_hand.state.params)):
    np.testing.assert_array_equal(one, other)


def test_old_logprobs_that_are_known_are_not_computed_again():
  batch = make_batch(prompts=4)
  learner, given = make_learner(), make_learner()
  old = given.score(batch)
  learner.train(batch)
  given.train(dataclasses.replace(batch, old_logprobs=old))
  for one, other in zip(host(learner.state.params), host(given.state.params)):
    np.testing.assert_array_equal(one, other)
  off = make_learner()
  metrics = off.train(dataclasses.replace(batch, old_logprobs=old - 1))
  assert metrics["ratio/max"] > np.exp(0.9)  # they are what the second update is clipped against


def test_clip_shares_are_of_tokens_without_a_gradient():
  batch = make_batch(prompts=4)
  learner, half = make_learner(), make_learner()
  old = learner.score(batch)
  shift = np.random.default_rng(0).choice([-0.5, 0.0, 0.5], old.shape).astype(np.float32)
  old[2:] += shift[2:]
  metrics = learner.train(dataclasses.replace(batch, old_logprobs=old))

  half.train(jax.tree.map(lambda x: x[:2], batch))  # what the second update, which is off-policy, starts from
  ratio = np.exp(half.score(batch) - old)[2:][batch.mask[2:]]
  positive = np.broadcast_to(batch.advantages[2:] > 0, batch.mask[2:].shape)[batch.mask[2:]]
  high, low = (ratio > 1.28) & positive, (ratio < 0.8) & ~positive
  assert high.any() and low.any()
  # Means of two updates, the first of which clips nothing.
  assert metrics["clip/high"] == pytest.approx(high.mean() / 2) and metrics["clip/low"] == pytest.approx(low.mean() / 2)


def test_likelihood_of_correct_answers_is_a_mean_over_their_tokens_alone():
  # VAPO. Without advantages the gradient is that of this term alone.
  correct = np.zeros((P, G), bool)
  correct[0, 1] = correct[1, 2] = True
  batch = dataclasses.replace(make_batch(), advantages=np.zeros((P, G, 1), np.float32), correct=correct)
  objective = make_objective(nll_on_correct=0.1)
  learner = make_learner(objective)
  right = batch.mask & correct[..., None]
  nll = -learner.score(batch)[right].mean()
  found = learner.train(batch)
  assert found["nll/correct"] == pytest.approx(nll, rel=1e-5) and found["loss"] == pytest.approx(0.1 * nll, rel=1e-5)
  assert -learner.score(batch)[right].mean() < nll
  none_right = dataclasses.replace(batch, correct=np.zeros((P, G), bool))
  assert make_learner(objective).train(none_right)["loss"] == 0
