"""Tests for silent mistakes of post-training, from the engine's draws to the learner's update."""

import copy
import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from posttrain_jax.assembly.judges import make_judge
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.pipelines.advantages import Estimator, step_advantages
from posttrain_jax.pipelines.policy_batches import Logprobs, RolloutShape, policy_batch, stack_groups, training_mask
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers
from posttrain_jax.rollouts.group_json import group_from_json, group_to_json
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import FinishReason, Group, Prompt
from tests.learner.settings import make_objective, make_optimizer_config
from tests.pipelines.made_groups import answer, group
from tests.random_params import random_params

MODEL = TransformerConfig(
  vocab_size=17, num_layers=2, embed_dim=16, mlp_dim=32, num_heads=2, num_kv_heads=1, head_dim=8
)
P, G, TP, TC = 4, 2, 5, 6
EOS = 0  # the id that fills padding too
TOKENIZER = tiny_tokenizer(SYMBOLS)


@functools.cache
def first(model, per_update):
  mesh = make_mesh({}, jax.devices()[:1])
  settings = dict(max_skipped_updates=2, seed=0, params=random_params(model))
  learner = PolicyLearner(
    model,
    make_objective(),
    make_optimizer_config(),
    mesh,
    Division(per_update, budget=per_update * (TP - 1 + G * TC)),
    **settings,
  )
  return learner, jax.device_get(learner.state)


def make_learner(model=MODEL, per_update=P):
  """Makes a learner in its first state; learners of equal settings share their compiled programs."""
  made, state = first(model, per_update)
  learner = copy.copy(made)
  learner.state = jax.device_put(state, made.shardings, may_alias=False)
  return learner


@functools.cache
def drawn(model=MODEL):
  """Draws groups with the parameters of `make_learner(model)`; the first answer of each is called right."""
  learner, mesh = make_learner(model), make_mesh({}, jax.devices()[:1])
  sampling = SamplingConfig(stop_ids=(EOS, 9))
  sizes = Sizes(slots=8, max_prompt_length=TP, max_new_tokens=TC)
  engine = Engine(model, sampling, sizes, seed=0, mesh=mesh)
  abstract = abstract_like(learner.state, learner.shardings).params
  hand_over = make_handover(abstract, num_layers=model.num_layers, dtype=model.compute_dtype, mesh=mesh)
  engine.load(hand_over(learner.state.params), learner.version)
  prompts = [Prompt(i, (3, EOS, 5 + i)[: 1 + i % 3], {}) for i in range(P)]
  judged = [group(each.answers, [1] + [0] * (G - 1)) for each in engine.generate(prompts, G)]
  return [dataclasses.replace(each, prompt=prompt) for each, prompt in zip(judged, prompts)]


def learner_batch(groups, advantage="group_normalized", *, count=P, group_size=G):
  """Makes a batch and its rollout as the loop does, with an estimator that needs no learner."""
  rollout = stack_groups(groups, RolloutShape(count, group_size, TP, TC))
  mask = training_mask(rollout, overlong_filter=False)
  advantages = step_advantages(Estimator(advantage, {}), rollout, mask, Logprobs())
  return dataclasses.replace(policy_batch(rollout, mask), advantages=advantages), rollout


def params(learner):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(learner.state.params)]


def same(one, other):
  return all((a == b).all() for a, b in zip(params(one), params(other), strict=True))


@pytest.fixture(scope="module")
def float32():
  """Takes one step on drawn answers with pad id = stop id; returns (learner, metrics, batch, rollout)."""
  learner = make_learner()
  made, rollout = learner_batch(drawn())
  return learner, learner.train(made), made, rollout


def test_tokens_in_tokens_out():
  # "=", "3" and EOS were drawn; their text is "=3", which is one token of the vocabulary.
  ids = [TOKENIZER.encode("=")[0], TOKENIZER.encode("3")[0], TOKENIZER.eos_id]
  with RewardWorkers(
    [RewardFunction("posttrain_jax.rewards.verifiers:exact_answer", 1.0, {}, "correct")], workers=0
  ) as workers:
    unjudged = Group(Prompt(0, (4,), {"answer": "3"}), (answer(ids), answer([*ids, *ids])))
    (judged,) = make_judge(workers, TOKENIZER, accuracy="correct")([unjudged])
  assert judged.texts[0] == "=3" and TOKENIZER.encode(judged.texts[0]) != ids[:2]
  restored = group_from_json(json.loads(json.dumps(group_to_json(judged))))
  for each in (judged, restored):
    made, rollout = learner_batch([each])
    np.testing.assert_array_equal(rollout.answers[0, 0, :3], ids)
    np.testing.assert_array_equal(made.answers[0, 1], [*ids, *ids])
    np.testing.assert_array_equal(made.mask[0].sum(-1), [3, 6])
    np.testing.assert_array_equal(made.sampler_logprobs[0, 0, :3], unjudged.answers[0].sampler_logprobs)


def test_the_stop_id_is_trained_once_and_padding_of_the_same_id_never(float32):
  _, _, made, rollout = float32
  stopped = rollout.finish_reasons == FinishReason.EOS
  assert 0 < stopped.sum() < P * G and (rollout.lengths < TC).any()
  np.testing.assert_array_equal(made.mask.sum(-1), rollout.lengths)
  stops = made.mask & np.isin(made.answers, (EOS, 9))
  np.testing.assert_array_equal(stops.sum(-1), stopped)
  assert not made.answers[~made.mask].any()  # padding is EOS throughout


def test_padding_of_any_id_gives_the_same_update(float32):
  learner, metrics, made, _ = float32
  other = make_learner()
  noise = np.random.default_rng(0).integers(1, 17, made.answers.shape)
  beyond = np.arange(TP) >= made.prompt_lengths[:, None]
  padded = dataclasses.replace(
    made,
    answers=np.where(made.mask, made.answers, noise).astype(np.int32),
    prompts=np.where(beyond, 7, made.prompts).astype(np.int32),
  )
  assert other.train(padded) == metrics and same(other, learner)


def test_the_stop_id_itself_counts(float32):
  learner, _, made, rollout = float32
  other = make_learner()
  p, g = np.argwhere(rollout.finish_reasons == FinishReason.EOS)[0]
  mask = made.mask.copy()
  mask[p, g, rollout.lengths[p, g] - 1] = False
  other.train(dataclasses.replace(made, mask=mask))
  assert not same(other, learner)


def test_the_engine_has_no_mismatch_with_the_learner(float32):
  _, metrics, _, _ = float32
  assert metrics["ratio/max"] == 1
  assert metrics["mismatch/max_abs_logprob"] < 1e-5


def test_missing_groups_do_nothing():
  groups = drawn()[:2]
  few, padded = make_learner(per_update=2), make_learner()
  one = few.train(learner_batch(groups, count=2)[0])
  made, _ = learner_batch(groups)
  noise = np.random.default_rng(0).integers(0, 17, made.answers.shape)
  noisy = dataclasses.replace(made, answers=np.where(made.mask, made.answers, noise).astype(np.int32))
  other = padded.train(noisy)
  for name, value in one.items():
    assert other[name] == pytest.approx(value, abs=1e-6), name
  for a, b in zip(params(few), params(padded)):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_empty_answers():
  # Nothing but the stop id, in all answers and in some.
  empty, full = answer([TOKENIZER.eos_id]), answer([*TOKENIZER.encode(" Answer: 3"), TOKENIZER.eos_id])
  groups = [
    Group(Prompt(i, (4,), {"answer": "3"}), answers) for i, answers in enumerate([(empty, full), (empty, empty)])
  ]
  with RewardWorkers(
    [RewardFunction("posttrain_jax.rewards.verifiers:exact_answer", 1.0, {}, "correct")], workers=0
  ) as workers:
    judged = make_judge(workers, TOKENIZER, accuracy="correct")(groups)
  assert judged[0].texts[0] == "" and judged[0].valid.all()
  np.testing.assert_array_equal(judged[0].accuracy, [0, 1])
  made, _ = learner_batch(judged, count=2)
  np.testing.assert_array_equal(made.mask.sum(-1), [[1, 3], [1, 1]])
  np.testing.assert_array_equal(made.advantages[..., 0], [[-1, 1], [0, 0]])


@pytest.mark.parametrize("advantage", ["group_normalized", "group_centered", "leave_one_out"])
def test_groups_of_one_and_failed_rewards_have_no_advantage_and_no_nan(advantage):
  two = [answer([3, EOS]), answer([4, 5, EOS])]
  advantages = learner_batch([group(two[:1], [1]), group(two[1:], [0.3])], advantage, group_size=1)[0].advantages
  assert advantages.shape == (P, 1, 1) and not advantages.any()

  failed = [group(two, [1, 0], valid=[False, False]), group(two, [1, 0], valid=[True, False]), group(two, [1, 0])]
  advantages = learner_batch(failed, advantage)[0].advantages[..., 0]
  assert advantages.dtype == np.float32
  assert not advantages[[0, 1, 3]].any() and advantages[2, 0] > 0 > advantages[2, 1]


def test_an_update_without_any_advantage_is_finite_and_moves_nothing():
  learner = make_learner()
  before = params(learner)
  made, _ = learner_batch([group([answer([3, EOS]), answer([4, EOS])], [1, 0], valid=[True, False])] * P)
  assert made.mask.any()
  metrics = learner.train(made)
  assert np.isfinite(list(metrics.values())).all() and metrics["skipped_updates"] == 0
  assert metrics["loss"] == metrics["grad_norm"] == 0
  assert all((a == b).all() for a, b in zip(before, params(learner)))


def test_bfloat16_keeps_float32_where_it_matters():
  model = dataclasses.replace(MODEL, compute_dtype="bfloat16", num_layers=1)
  learner = make_learner(model)
  made, _ = learner_batch(drawn(model))
  assert made.sampler_logprobs.dtype == np.float32
  logprobs = learner.score(made)
  assert logprobs.dtype == np.float32
  # A bfloat16 has the lower 16 bits of a float32 empty.
  assert (logprobs[made.mask].view(np.uint32) & 0xFFFF).any()
  metrics = learner.train(made)
  assert metrics["ratio/max"] == 1 and metrics["clip/low"] == metrics["clip/high"] == 0
  assert 0 < metrics["mismatch/mean_abs_logprob"] < 0.02 and metrics["mismatch/max_abs_logprob"] < 0.1
  assert {leaf.dtype for leaf in params(learner)} == {np.dtype(np.float32)}
