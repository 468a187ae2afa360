"""Tests PPO-ptx's gradient: the policy loss's gradient plus γ times the text loss's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.learner import supervised
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.mixture import Text, weighted
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.state import TrainState
from posttrain_jax.learner.update import LossOutput, Summand, apply_update
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_objective, make_optimizer_config
from tests.learner.small_policy import MODEL, make_batch
from tests.random_params import graph, random_params

GAMMA = 27.8


def test_the_gradient_is_the_weighted_sum_of_the_two_however_the_update_is_cut():
  rng = np.random.default_rng(0)
  params, answers, text = rng.normal(size=3), rng.normal(size=(4, 3)), rng.normal(size=(8, 3))

  def mean_of(function, name):
    return lambda params, rows, total: LossOutput(function(rows @ params).sum() / total, {name: rows.sum()}, {})

  policy, likelihood = mean_of(jnp.sin, "entropy"), mean_of(jnp.square, "tokens")
  # By hand: ∇ mean sin(x·w) + γ ∇ mean (x·w)².
  expected = (np.cos(answers @ params)[:, None] * answers).mean(0)
  expected += GAMMA * (2 * (text @ params)[:, None] * text).mean(0)
  likelihood = weighted(likelihood, GAMMA, name="ptx")
  for parts in (1, 2, 4):
    answers_cut, text_cut = (jnp.asarray(x.reshape(parts, -1, 3), jnp.float32) for x in (answers, text))
    state = TrainState(jnp.int32(0), jnp.asarray(params, jnp.float32), ())
    summands = [Summand(policy, answers_cut, 4), Summand(likelihood, text_cut, 8)]
    new, metrics = apply_update(summands, optax.identity(), state)
    np.testing.assert_allclose(new.params - state.params, expected, rtol=1e-5)  # the gradient is the change
    loss = np.sin(answers @ params).mean() + GAMMA * np.square(text @ params).mean()
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["ptx/loss"] == pytest.approx(np.square(text @ params).mean(), rel=1e-5)
    assert metrics["ptx/tokens"] == pytest.approx(text.sum(), rel=1e-4)
    assert metrics["entropy"] == pytest.approx(answers.sum(), rel=1e-4)


def make_text(seed=0, rows=4, length=8):
  rng = np.random.default_rng(seed)
  mask = rng.random((rows, length)) < 0.7
  mask[:, 0] = False
  return SupervisedBatch(
    tokens=rng.integers(0, 17, (rows, length)).astype(np.int32),
    mask=mask,
    segment_ids=np.ones((rows, length), np.int32),
    positions=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
    weights=mask.astype(np.float32),
    draws=np.arange(rows, dtype=np.int32),
  )


def test_every_update_of_a_policy_takes_the_next_text():
  drawn = []

  def batch(version):
    drawn.append(version)
    return make_text(version)

  params = random_params(MODEL)
  learner = PolicyLearner(
    MODEL,
    make_objective(),
    make_optimizer_config(learning_rate=1e-2),
    make_mesh({}, jax.devices()[:1]),
    Division(prompts_per_update=2, budget=22),
    max_skipped_updates=3,
    seed=0,
    params=params,
    text=Text(GAMMA, batch, micro_batches=2),
  )
  nll, tokens = supervised.make_sums(graph(MODEL), logprob_chunk=64)(params, make_text(0))
  without = dataclasses.replace(make_batch(prompts=2), advantages=np.zeros((2, 3, 1), np.float32))
  found = learner.train(without)
  # Without advantages the loss is that of the text alone.
  assert found["ptx/loss"] == pytest.approx(float(nll / tokens), rel=1e-5)
  assert found["loss"] == pytest.approx(GAMMA * float(nll / tokens), rel=1e-5) and found["grad_norm"] > 1
  learner.train(without)
  assert drawn == [0, 1] and learner.version == 2
