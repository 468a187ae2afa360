"""The policy-gradient loss as a sum over tokens, against autodiff through all of them."""

import dataclasses

import jax
import numpy as np
import pytest

from posttrain_jax.learner.division import Division
from posttrain_jax.learner.objective import Aggregation, Objective
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_correction, make_objective
from tests.learner.small_policy import MODEL, OPTIMIZER, TC, G, P, host, make_batch


@pytest.mark.parametrize(
  "objective",
  [
    make_objective(kl_coefficient=0.1, entropy_coefficient=0.05, nll_on_correct=0.2, dual_clip=3.0, temperature=0.8),
    make_objective(aggregation=Aggregation.SEQUENCE_MEAN, surrogate="clipped_importance_weight", clip_low=1.0),
    make_objective(aggregation=Aggregation.PROMPT_MEAN, surrogate="soft_gated_surrogate", logprob_chunk=5),
    make_objective(
      aggregation=Aggregation.FIXED_LENGTH,
      max_new_tokens=TC,
      surrogate="reinforce",
      correction=make_correction(mode="mask", low=0.5, high=2.0),
    ),
  ],
)
def test_the_gradient_of_the_forward_pass_is_autodiffs(objective, monkeypatch):
  """Losses that are sums over tokens: one computation of the logits against two, on and off policy, all metrics."""
  assert objective.is_sum_over_tokens
  rng = np.random.default_rng(5)
  batch = dataclasses.replace(
    make_batch(prompts=2 * P),
    reference_logprobs=rng.normal(-2.8, 0.3, (2 * P, G, TC)).astype(np.float32),
    correct=rng.random((2 * P, G)) < 0.5,
  )

  def train():
    learner = PolicyLearner(
      MODEL,
      objective,
      OPTIMIZER,
      make_mesh({}, jax.devices()[:1]),
      Division(prompts_per_update=P, micro_batches=2),
      max_skipped_updates=3,
      seed=0,
    )
    return learner.train(batch), host(learner.state.params)

  metrics, params = train()
  monkeypatch.setattr(Objective, "is_sum_over_tokens", False)
  expected_metrics, expected_params = train()
  assert metrics.keys() == expected_metrics.keys()
  for name, expected in expected_metrics.items():
    np.testing.assert_allclose(metrics[name], expected, rtol=2e-4, atol=2e-6, err_msg=name)
  for found, expected in zip(jax.tree.leaves(params), jax.tree.leaves(expected_params)):
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_what_looks_at_other_tokens_is_no_sum_over_tokens():
  for surrogate, options in (("sequence_clipped_surrogate", {}), ("geometric_mean_surrogate", {})):
    assert not make_objective(surrogate=surrogate, surrogate_options=options).is_sum_over_tokens
  assert not make_objective(correction=make_correction(level="sequence")).is_sum_over_tokens
  assert not make_objective(correction=make_correction(level="geometric")).is_sum_over_tokens
