"""Tests that the reward model's update equals that of rows scored one by one.

Rows that only fill up a batch have no effect.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.data.comparison_batches import ComparisonBatch, ComparisonBatches
from posttrain_jax.data.preferences import Comparison, Margins, Strength
from posttrain_jax.learner import reward_model
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.scoring import Scorer
from posttrain_jax.learner.value import packed_values
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_optimizer_config
from tests.random_params import graph, names, random_params

CONFIG = TransformerConfig(
  24, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=4, num_kv_heads=2, head_dim=4, scalar_head=True
)
OPTIMIZER = make_optimizer_config(learning_rate=0.1, epsilon=1.0, weight_decay=0.0, clip_norm=0.5)
EOS, CENTERING = 2, 0.3


def comparisons() -> list[Comparison]:
  """Makes eight prompts: pairs, and three ranked answers, one with a tie and one not judged."""
  rng = np.random.default_rng(0)
  ranks = [(0, 1), (1, 0), (0, 1, 2), (1, 0, 1), (0, 1), (2, 1, 0), (0, None, 1), (1, 0)]
  return [
    Comparison(
      tuple(rng.integers(3, 24, rng.integers(1, 6)).tolist()),
      tuple(np.append(rng.integers(3, 24, rng.integers(1, 5)), EOS).astype(np.int32) for _ in of),
      of,
      Strength.BETTER if len(of) == 2 else None,
    )
    for of in ranks
  ]


def whole_batch(pad_id=0) -> ComparisonBatch:
  (batch,) = ComparisonBatches(comparisons(), batch_size=8, seed=0, pad_id=pad_id).in_order(8)
  return batch


@functools.cache
def row_scores() -> list[list[float]]:
  """Computes the rewards of all answers, each row alone, read at its last token."""
  params = random_params(CONFIG)
  weights, bias = (np.asarray(names(params)[name], np.float64) for name in ("score", "score_bias"))
  hidden = jax.jit(lambda tokens: row_hidden(nnx.merge(graph(CONFIG), params), tokens))

  def one(prompt, answer):
    row = np.concatenate([prompt, answer]).astype(np.int32)
    padded = np.pad(row, (0, 12 - len(row)))[None]  # one shape for all rows
    return float(np.asarray(hidden(padded)[0, len(row) - 1], np.float64) @ weights + bias)

  return [[one(each.prompt, answer) for answer in each.answers] for each in comparisons()]


def expected_loss(margins=None) -> tuple[float, float, float]:
  """Computes (loss, accuracy, mean margin), in float64 and pair by pair."""
  losses, won, leads = [], [], []
  for each, scores in zip(comparisons(), row_scores()):
    of_prompt = []
    for i, j in each.beaten():
      lead = scores[i] - scores[j]
      needed = margins.of(each.strength_of(i, j)) if margins else 0.0
      of_prompt.append(math.log1p(math.exp(-(lead - needed))) + CENTERING * (scores[i] + scores[j]) ** 2)
      won.append(lead > 0)
      leads.append(lead)
    losses.append(np.mean(of_prompt))
  return float(np.mean(losses)), float(np.mean(won)), float(np.mean(leads))


WIDEST = 4 + 3 * 6  # tokens of the longest prompt with its longest answers, each with the place that has read it


def division(tokens):
  return Division(prompts_per_update=8, budget=tokens)


def train(batch, sizes=None, tokens=8 * WIDEST):
  mesh = make_mesh(sizes or {}, jax.devices()[: math.prod((sizes or {}).values())])
  learner = reward_model.make_learner(
    CONFIG,
    OPTIMIZER,
    mesh,
    division(tokens),
    centering=CENTERING,
    seed=0,
    max_skipped_updates=5,
    params=random_params(CONFIG),
  )
  return learner.train(batch), names(learner.state.params)


reference = functools.cache(lambda: train(whole_batch()))


def assert_same(found, expected):
  metrics, after = expected
  assert found[0]["skipped_updates"] == metrics["skipped_updates"] == 0
  for name in metrics:
    np.testing.assert_allclose(found[0][name], metrics[name], rtol=1e-4, atol=1e-6, err_msg=name)
  for name, leaf in after.items():
    np.testing.assert_allclose(found[1][name], leaf, atol=2e-6, err_msg=name)
  start = names(random_params(CONFIG))
  moved = {name: np.abs(np.asarray(leaf) - np.asarray(start[name])).max() for name, leaf in after.items()}
  assert min(moved.values()) > 1e-6, moved  # else equality would say nothing


def test_loss_and_metrics_are_those_of_rows_scored_one_by_one():
  metrics, _ = reference()
  loss, accuracy, margin = expected_loss()
  assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
  assert metrics["accuracy"] == pytest.approx(accuracy) and metrics["margin"] == pytest.approx(margin, rel=1e-4)
  assert metrics["pairs"] == sum(len(each.beaten()) for each in comparisons()) == 13
  assert metrics["reward_abs_max"] == pytest.approx(max(abs(s) for scores in row_scores() for s in scores), rel=1e-5)


def test_margins_enter_the_loss():
  pairs = [each for each in comparisons() if len(each.answers) == 2]
  (batch,) = ComparisonBatches(pairs, batch_size=4, seed=0, margins=Margins.LARGE).in_order(4)
  leads = [s[i] - s[j] for each, s in zip(comparisons(), row_scores()) if len(s) == 2 for i, j in each.beaten()]
  centered = [CENTERING * sum(s) ** 2 for s in row_scores() if len(s) == 2]
  wanted = np.mean(np.logaddexp(0, 2.0 - np.array(leads)) + centered)  # a margin of 2 for "better"
  update = packed(batch)
  loss = jax.jit(reward_model.make_loss(graph(CONFIG), centering=CENTERING))
  found = loss(random_params(CONFIG), jax.tree.map(lambda x: x[0], update.parts), update.totals)
  assert update.count == 1 and float(found.loss) == pytest.approx(wanted, rel=1e-5)


def packed(batch, tokens=8 * WIDEST):
  return reward_model.pack_rankings(division(tokens), make_mesh({}, jax.devices()[:1]), batch)


@pytest.mark.parametrize(("tokens", "count"), [(WIDEST, 7), (60, 2)])
def test_token_budgets(tokens, count):
  assert packed(whole_batch(), tokens).count == count and packed(whole_batch()).count == 1
  assert_same(train(whole_batch(), tokens=tokens), reference())


def test_the_gradient_is_that_of_rows_scored_one_by_one():
  rows = [np.concatenate([each.prompt, answer]) for each in comparisons() for answer in each.answers]
  tokens = np.array([np.pad(row, (0, 12 - len(row))) for row in rows], np.int32)
  last = np.array([len(row) - 1 for row in rows])
  starts = np.cumsum([0, *(len(each.answers) for each in comparisons())])

  def slow(params):
    model = nnx.merge(graph(CONFIG), params)
    hidden = row_hidden(model, tokens)[np.arange(len(rows)), last]
    scores = hidden @ model.score[...] + model.score_bias[...]
    of_prompts = []
    for start, each in zip(starts, comparisons()):
      pairs = [(scores[start + i], scores[start + j]) for i, j in each.beaten()]
      of_pairs = [jnp.logaddexp(0, -(won - lost)) + CENTERING * (won + lost) ** 2 for won, lost in pairs]
      of_prompts.append(sum(of_pairs) / len(pairs))
    return sum(of_prompts) / len(of_prompts)

  loss = reward_model.make_loss(graph(CONFIG), centering=CENTERING)

  @jax.jit
  def fast(params, part, totals):
    return jax.grad(lambda params: loss(params, part, totals).loss)(params)

  update = packed(whole_batch(), 30)
  parts = [jax.tree.map(lambda x, i=i: x[i], update.parts) for i in range(update.count)]
  found = [fast(random_params(CONFIG), part, update.totals) for part in parts]
  assert len(found) > 3
  gradient = names(jax.tree.map(lambda *parts: sum(parts), *found))
  for name, leaf in names(jax.jit(jax.grad(slow))(random_params(CONFIG))).items():
    np.testing.assert_allclose(gradient[name], leaf, atol=1e-5, err_msg=name)


def test_on_a_mesh():
  assert_same(train(whole_batch(), dict(data=2, fsdp=2, tensor=2)), reference())


def test_a_reward_is_read_at_the_last_real_token_where_the_pad_is_the_end_token():
  scorer = Scorer(CONFIG, packed_values, make_mesh({}, jax.devices()[:1]), division(30))
  for pad_id in (EOS, 7):
    batch = whole_batch(pad_id)
    found = scorer(random_params(CONFIG), reward_model.read_answers(batch))
    found = np.take_along_axis(found, batch.lengths[..., None], axis=-1)[..., 0]
    for row, wanted in zip(found, row_scores()):
      np.testing.assert_allclose(row[: len(wanted)], wanted, rtol=1e-4, atol=1e-5)
  lengths = whole_batch(EOS).lengths
  assert len(set(lengths.ravel().tolist()) - {0}) > 2  # else the last column would do


def test_rows_that_fill_up_and_answers_that_are_missing_have_no_influence():
  # Sixteen rows of which eight are filling, and a fourth answer that no prompt has: both full of arbitrary tokens.
  (longer,) = ComparisonBatches(comparisons(), batch_size=16, seed=0).in_order(16)
  assert (longer.index[8:] == -1).all()
  missing = np.full((16, 1, longer.answers.shape[2]), 9, np.int32)
  wider = dataclasses.replace(
    longer,
    answers=np.concatenate([longer.answers, missing], axis=1),
    lengths=np.pad(longer.lengths, [(0, 0), (0, 1)]),
    mask=np.pad(longer.mask, [(0, 0), (0, 1), (0, 0)]),
    preferred=np.pad(longer.preferred, [(0, 0), (0, 1), (0, 1)]),
    margins=np.pad(longer.margins, [(0, 0), (0, 1), (0, 1)]),
  )
  assert_same(train(wider, tokens=4 + 4 * 6), reference())


def test_a_batch_without_any_pair_has_a_gradient_of_zero():
  batch = dataclasses.replace(whole_batch(), preferred=np.zeros_like(whole_batch().preferred))
  metrics, after = train(batch)
  assert metrics["loss"] == metrics["grad_norm"] == metrics["accuracy"] == metrics["skipped_updates"] == 0
  for name, leaf in names(random_params(CONFIG)).items():
    np.testing.assert_array_equal(after[name], leaf, err_msg=name)


def test_soft_targets_reach_the_loss():
  found = []
  for probability in (None, 1.0, 0.5):
    one = dataclasses.replace(comparisons()[0], probability=probability)
    (batch,) = ComparisonBatches([one], batch_size=1, seed=0).in_order(1)
    update = packed(batch)
    loss = jax.jit(reward_model.make_loss(graph(CONFIG), centering=0.0))
    found.append(loss(random_params(CONFIG), jax.tree.map(lambda x: x[0], update.parts), update.totals).loss)
  better, worse = row_scores()[0]
  certain, other = np.logaddexp(0, worse - better), np.logaddexp(0, better - worse)
  np.testing.assert_allclose(found, [certain, certain, (certain + other) / 2], rtol=1e-5)
