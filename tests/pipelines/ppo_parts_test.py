"""Tests what PPO's loop needs from its parts."""

import types

import numpy as np

from posttrain_jax.pipelines.ppo_advantages import NoEnd
from posttrain_jax.pipelines.ppo_parts import PPOParts
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import FinishReason
from tests.pipelines.made_groups import answer, group


def test_only_answers_without_an_end_get_the_score_for_that():
  stopped, cut = answer([5, 0]), answer([5, 6], reason=FinishReason.LENGTH)
  groups = [group([stopped, cut], [1, 1]), group([cut, stopped], [0, 0.5], valid=[True, False])]
  parts = types.SimpleNamespace(
    engine=types.SimpleNamespace(sizes=Sizes(slots=1, max_prompt_length=3, max_new_tokens=2)),
    settings=types.SimpleNamespace(no_end=NoEnd(penalised=True, score=-2.0)),
  )
  batch, scores = PPOParts.batch(parts, groups)
  np.testing.assert_array_equal(scores, [[1, -2], [-2, 0]])
  np.testing.assert_array_equal(batch.mask.sum(-1), [[2, 2], [2, 0]])
  np.testing.assert_array_equal(batch.correct, [[True, True], [False, False]])  # the verdict stays


def test_the_average_is_evaluated_beside_the_policy():
  parts = types.SimpleNamespace(
    evaluator=lambda params, version: ({"eval/held/difficulty/1/avg@2": params, "eval/held/version": version}, {}),
    engine=types.SimpleNamespace(params=1.0),
    learner=types.SimpleNamespace(version=3),
    kl_to_start=None,
    settings=types.SimpleNamespace(average=types.SimpleNamespace(evaluate=True)),
    _hand_over=lambda params: 10 * params,
  )
  own = {"eval/held/difficulty/1/avg@2": 1.0, "eval/held/version": 3}
  assert PPOParts.evaluate(parts, None) == own
  both = own | {"eval/held_average/difficulty/1/avg@2": 50.0, "eval/held_average/version": 3}
  assert PPOParts.evaluate(parts, 5.0) == both
  parts.settings.average.evaluate = False
  assert PPOParts.evaluate(parts, 5.0) == own
