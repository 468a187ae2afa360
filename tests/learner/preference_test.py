"""Tests losses of pairs against rows computed one by one.

Every method moves in its direction, and rows that only fill up a batch have no effect.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.tiny_dpo import OPTIONS
from posttrain_jax import losses
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison, with_mismatched
from posttrain_jax.learner import preference
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.preference import PreferenceLoss
from posttrain_jax.learner.preference_batch import Pairs, ReferencedBatch, pack_pairs
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config, make_preference_objective
from tests.random_params import graph, names, random_params

CONFIG = TransformerConfig(24, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=4, num_kv_heads=2, head_dim=4)
OPTIMIZER = make_optimizer_config(learning_rate=0.1, epsilon=1.0, weight_decay=0.0, clip_norm=0.5)
DPO = make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}, logprob_chunk=7)


@functools.cache
def pairs() -> list[Comparison]:
  rng = np.random.default_rng(0)
  return [
    Comparison(
      tuple(rng.integers(3, 24, rng.integers(1, 5)).tolist()),
      tuple(np.append(rng.integers(3, 24, rng.integers(1, 5)), 2).astype(np.int32) for _ in range(2)),
      (0, 1),
    )
    for _ in range(8)
  ]


def batch_of(comparisons, size=8, **options):
  (batch,) = ComparisonBatches(comparisons, batch_size=size, seed=0, **options).in_order(size)
  return batch


@jax.jit
def _logits(params, tokens):
  model = nnx.merge(graph(CONFIG), params)
  return row_hidden(model, tokens) @ model.unembedding()


def row_logprobs(comparisons, seed=0, count_end=True) -> np.ndarray:
  """Computes logprobs in float64 [N, K], each row alone, from all of its logits."""

  def one(prompt, answer):
    row = np.concatenate([prompt, answer]).astype(np.int32)
    padded = np.pad(row, (0, 12 - len(row)))[None]  # one shape for all rows
    logits = np.asarray(_logits(random_params(CONFIG, seed=seed), padded), np.float64)[0, : len(row)]
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    of_answer = logprobs[np.arange(len(prompt) - 1, len(row) - 1), answer]
    return of_answer[: len(answer) if count_end else -1].sum()

  return np.array([[one(each.prompt, answer) for answer in each.answers] for each in comparisons])


@functools.cache
def policy_and_reference() -> tuple[np.ndarray, np.ndarray]:
  return row_logprobs(pairs()), row_logprobs(pairs(), seed=1)


def referenced(**options) -> ReferencedBatch:
  return ReferencedBatch(batch_of(pairs(), **options), policy_and_reference()[1].astype(np.float32))


ONE = make_mesh({}, jax.devices()[:1])
WIDEST = 3 + 2 * 5  # tokens of the longest prompt with its longest answers


def packed(batch, tokens=8 * WIDEST, mesh=ONE):
  return pack_pairs(Division(len(batch.reference), tokens), mesh, batch)


def output(objective, batch):
  """Returns loss and metrics of an update in one micro-batch."""
  loss = jax.jit(preference.make_loss(graph(CONFIG), objective))
  update = packed(batch, tokens=8 * (3 + 3 * 5))
  assert update.count == 1
  return loss(random_params(CONFIG), jax.tree.map(lambda x: x[0], update.parts), update.totals)


def train(batch, sizes=None, tokens=8 * WIDEST):
  mesh = make_mesh(sizes or {}, jax.devices()[: math.prod((sizes or {}).values())])
  learner = BatchLearner(
    CONFIG,
    preference.make_loss(graph(CONFIG), DPO, shards=batch_shards(mesh)),
    functools.partial(packed, tokens=tokens, mesh=mesh),
    OPTIMIZER,
    mesh,
    seed=0,
    max_skipped_updates=5,
    params=random_params(CONFIG),
  )
  return learner.train(batch), names(learner.state.params)


reference = functools.cache(lambda: train(referenced()))


def assert_same(found, expected):
  for name, value in expected[0].items():
    np.testing.assert_allclose(found[0][name], value, rtol=1e-4, atol=1e-5, err_msg=name)
  before = names(random_params(CONFIG))
  for name, leaf in expected[1].items():
    assert np.abs(np.asarray(leaf) - np.asarray(before[name])).max() > 1e-6, name
    np.testing.assert_allclose(found[1][name], leaf, atol=2e-6, err_msg=name)


def test_dpo_and_its_metrics_by_hand():
  metrics, _ = reference()
  policy, of_reference = policy_and_reference()
  moved = policy - of_reference
  margin = 0.5 * (moved[:, 0] - moved[:, 1])
  assert metrics["loss"] == pytest.approx(np.logaddexp(0, -margin).mean(), rel=1e-5)
  assert metrics["reward/margin"] == pytest.approx(margin.mean(), rel=1e-4)
  assert metrics["reward/accuracy"] == pytest.approx((margin > 0).mean())
  assert metrics["reward/chosen"] == pytest.approx(0.5 * moved[:, 0].mean(), rel=1e-4)
  assert metrics["logprob/rejected_moved"] == pytest.approx(moved[:, 1].mean(), rel=1e-4)
  assert metrics["logprob/chosen"] == pytest.approx(policy[:, 0].mean(), rel=1e-5)
  assert metrics["length/chosen"] == np.mean([len(each.answers[0]) for each in pairs()])


@pytest.mark.parametrize(("tokens", "count"), [(WIDEST, 8), (30, 3)])
def test_token_budgets(tokens, count):
  assert packed(referenced(), tokens).count == count and packed(referenced()).count == 1
  assert_same(train(referenced(), tokens=tokens), reference())


def test_on_a_mesh():
  assert_same(train(referenced(), dict(data=2, fsdp=2, tensor=2)), reference())


def filled_up() -> ReferencedBatch:
  """Makes sixteen rows of which eight only fill up, with a reference as far off as possible."""
  batch = batch_of(pairs(), size=16)
  assert (batch.index[8:] == -1).all()
  far = np.where(np.arange(8)[:, None] + np.array([[0, 1]]) > 4, -1e4, 1e4)
  return ReferencedBatch(batch, np.concatenate([policy_and_reference()[1], far]).astype(np.float32))


def test_rows_that_fill_up_have_no_influence():
  assert packed(filled_up(), WIDEST).count == 8
  assert_same(train(filled_up(), tokens=WIDEST), reference())


def test_the_gradient_of_packed_pairs_is_that_of_rows_run_one_by_one():
  batch, objective = referenced(count_end=False), make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5})
  rows = [(each.prompt, answer) for each in pairs() for answer in each.answers]
  tokens = np.array([np.pad(np.concatenate(row), (0, 12 - len(row[0]) - len(row[1]))) for row in rows], np.int32)
  starts, lengths = (np.array([len(row[i]) for row in rows])[:, None] for i in (0, 1))
  learned = (np.arange(11) >= starts - 1) & (np.arange(11) < starts + lengths - 2)  # place t predicts token t + 1

  def slow(params):
    logprobs = jax.nn.log_softmax(_logits(params, tokens))[:, :-1]
    sums = jnp.where(learned, jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=2)[..., 0], 0).sum(1)
    moved = sums.reshape(8, 2) - batch.reference
    return jax.nn.softplus(-0.5 * (moved[:, 0] - moved[:, 1])).mean()

  loss = preference.make_loss(graph(CONFIG), objective)

  @jax.jit
  def fast(params, part, total):
    return jax.value_and_grad(lambda params: loss(params, part, total).loss)(params)

  update = packed(batch, tokens=20)
  parts = [jax.tree.map(lambda x, i=i: x[i], update.parts) for i in range(update.count)]
  found = [fast(random_params(CONFIG), part, update.totals) for part in parts]
  assert len(found) == 3
  expected = jax.jit(jax.value_and_grad(slow))(random_params(CONFIG))
  assert float(sum(value for value, _ in found)) == pytest.approx(float(expected[0]), rel=1e-5)
  gradient = jax.tree.map(lambda *parts: sum(parts), *(gradient for _, gradient in found))
  expected = names(expected[1])
  for name, leaf in names(gradient).items():
    np.testing.assert_allclose(leaf, expected[name], atol=1e-5, err_msg=name)
    assert np.abs(np.asarray(leaf)).max() > 1e-4, name


TABLE = -1.0 - np.random.default_rng(3).random(24).astype(np.float32)  # a "model": a logprob for each token id
CHANGES = [
  {"options": {"beta": 0.1, "label_smoothing": 0.1}},
  {"nll_weight": 0.2},
  {"nll_weight": 0.2, "nll_mean": True},
  {"length_averaged": True},
]


def slow_loss(objective, comparisons, of_reference, table):
  """Computes a loss of pairs from the logprobs of their tokens; no array has padding."""
  sums = [[sum(table[int(i)] for i in answer) for answer in each.answers] for each in comparisons]
  sums = jnp.stack([jnp.stack(each) for each in sums])
  counts = np.array([[len(answer) for answer in each.answers] for each in comparisons])
  scale = 1 / counts if objective.length_averaged else 1.0
  policy, of_reference = sums * scale, of_reference * scale
  (policy_chosen, policy_rejected, *_), (reference_chosen, reference_rejected, *_) = policy.T, of_reference.T
  means = sums / counts
  given = dict(
    policy_chosen=policy_chosen,
    policy_rejected=policy_rejected,
    reference_chosen=reference_chosen,
    reference_rejected=reference_rejected,
    chosen_mean=means[:, 0],
    rejected_mean=means[:, 1],
  )
  if objective.loss == PreferenceLoss.KTO:
    given = dict(
      policy=policy[:, :2].ravel(),
      reference=of_reference[:, :2].ravel(),
      desirable=np.tile([True, False], len(policy)),
      kl=jnp.maximum((policy[:, 2] - of_reference[:, 2]).mean(), 0),
    )
  function = getattr(losses.preference, objective.loss)
  nll = -(means if objective.nll_mean else sums)[:, 0].mean()
  each = function(**{name: given[name] for name in objective.inputs}, **objective.options)
  return each.mean() + objective.nll_weight * nll, policy


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(
  ("loss", "changes"), [*((loss, {}) for loss in PreferenceLoss), *((PreferenceLoss.DPO, each) for each in CHANGES)]
)
def test_every_loss_and_its_gradient_are_those_of_pairs_computed_one_by_one(loss, changes, shards, monkeypatch):
  objective = make_preference_objective(loss, **{"options": OPTIONS[loss], **changes})
  comparisons = with_mismatched(pairs()) if objective.unpaired else pairs()
  of_reference = -np.random.default_rng(1).uniform(2, 9, (8, len(comparisons[0].answers))).astype(np.float32)
  filled = ReferencedBatch(batch_of(comparisons, size=11), np.pad(of_reference, [(0, 3), (0, 0)], constant_values=1e4))
  monkeypatch.setattr(preference, "packed_logprobs", lambda graph, table, rows, **_: table[rows.targets])
  cut = loss not in (PreferenceLoss.KTO, PreferenceLoss.AOT, PreferenceLoss.AOT_UNPAIRED)
  update = packed(filled, 18 if cut else 200, make_mesh({"data": shards}, jax.devices()[:shards]))
  assert (update.count > 2 // shards) if cut else update.count == 1
  loss_of = preference.make_loss(shards, objective)  # no graph is needed; a number keeps `made_once` apart

  def fast(table):
    parts = [jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), update.parts) for i in range(update.count)]
    found = [loss_of(table, part, update.totals) for part in parts]
    return sum(each.loss for each in found), sum(each.sums["logprob/rejected"] for each in found)

  (found, rejected), gradient = jax.jit(jax.value_and_grad(fast, has_aux=True))(TABLE)
  slow = functools.partial(slow_loss, objective, comparisons, of_reference)
  (expected, policy), wanted = jax.value_and_grad(slow, has_aux=True)(jnp.asarray(TABLE))
  assert float(found) == pytest.approx(float(expected), rel=1e-5)
  np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)
  assert np.abs(wanted).max() > 1e-3
  if not objective.length_averaged:
    assert float(rejected) == pytest.approx(float(policy[:, 1].mean()), rel=1e-5)


def test_at_the_reference_the_loss_of_dpo_is_log_2():
  at_reference = ReferencedBatch(batch_of(pairs()), policy_and_reference()[0].astype(np.float32))
  found = output(DPO, at_reference)
  assert float(found.loss) == pytest.approx(math.log(2), abs=1e-5)
  assert float(found.sums["reward/margin"]) == pytest.approx(0, abs=1e-4)
  assert float(found.sums["logprob/chosen_moved"]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("loss", PreferenceLoss)
def test_every_loss_runs_and_pulls_the_right_way_at_the_reference(loss):
  comparisons = with_mismatched(pairs()) if loss == PreferenceLoss.KTO else pairs()
  objective = make_preference_objective(loss, OPTIONS[loss])
  assert objective.unpaired == (loss == PreferenceLoss.KTO)
  at_reference = row_logprobs(pairs())
  at_reference = np.pad(at_reference, [(0, 0), (0, len(comparisons[0].answers) - 2)]).astype(np.float32)
  counts = np.array([[len(answer) for answer in each.answers] for each in comparisons])
  given = Pairs(jnp.ones((1, 8), bool), counts[None], at_reference[None])

  def value(logprobs):
    return preference.loss_of_sums(objective, logprobs[None], given, 8).loss

  slopes = np.asarray(jax.grad(value)(jnp.asarray(at_reference)))
  chosen, rejected = slopes[:, 0], slopes[:, 1]
  # DiscoPOP (2406.08414, section 5) starts between its minimum at x = -.12 and its maximum at .07: the wrong way.
  sign = -1 if loss == PreferenceLoss.DISCOPOP else 1
  assert np.isfinite(slopes).all()
  if loss == PreferenceLoss.APO_DOWN:  # pushes both down, the rejected one more
    np.testing.assert_allclose(chosen, 0, atol=1e-7)  # at the reference the two terms of chosen cancel
  else:
    assert (sign * chosen < 0).all(), chosen
  if loss == PreferenceLoss.NCA:  # up by 1/2 and down by 1/4 for chosen, down by 1/4 for rejected
    np.testing.assert_allclose(chosen, -0.25 * 0.1 / 8, rtol=1e-4)
  assert (sign * rejected > 0).all(), rejected
  if loss == PreferenceLoss.KTO:
    np.testing.assert_array_equal(slopes[:, 2], 0)  # the estimate of the KL is a constant


@pytest.mark.parametrize("loss", [PreferenceLoss.DPO, PreferenceLoss.KTO, PreferenceLoss.SIMPO])
def test_a_few_updates_of_the_model_raise_chosen_above_rejected(loss):
  # The whole way through the transformer: also the arguments are told apart.
  comparisons = with_mismatched(pairs()) if loss == PreferenceLoss.KTO else pairs()
  objective = make_preference_objective(loss, OPTIONS[loss])
  batch = ReferencedBatch(batch_of(comparisons), row_logprobs(comparisons).astype(np.float32))
  learner = BatchLearner(
    CONFIG,
    preference.make_loss(graph(CONFIG), objective),
    functools.partial(packed, tokens=8 * (3 + 3 * 5)),
    make_optimizer_config(learning_rate=0.01, weight_decay=0.0),
    ONE,
    seed=0,
    max_skipped_updates=5,
    params=random_params(CONFIG),
  )
  records = [learner.train(batch) for _ in range(4)]
  assert records[0]["reward/margin"] == pytest.approx(0, abs=1e-3)
  assert records[-1]["reward/margin"] > 0.05 and records[-1]["loss"] < records[0]["loss"]


def test_kto_takes_its_kl_from_mismatched_answers():
  comparisons = with_mismatched(pairs())
  policy, of_reference = row_logprobs(comparisons), row_logprobs(comparisons, seed=1)
  kl = max(0.0, (policy[:, 2] - of_reference[:, 2]).mean())
  u = policy - of_reference
  sign = np.array([1.0, -1.0])
  wanted = (1 / (1 + np.exp(sign * 0.1 * (u[:, :2] - kl)))).mean()
  objective = make_preference_objective(PreferenceLoss.KTO, {"beta": 0.1})
  found = output(objective, ReferencedBatch(batch_of(comparisons), of_reference.astype(np.float32)))
  assert float(found.loss) == pytest.approx(wanted, rel=1e-5)
  mirrored = ReferencedBatch(batch_of(comparisons), (2 * policy - of_reference).astype(np.float32))
  assert kl != max(0.0, -(policy[:, 2] - of_reference[:, 2]).mean())  # one of the two is floored, the other is not
  kl = max(0.0, -(policy[:, 2] - of_reference[:, 2]).mean())
  wanted = (1 / (1 + np.exp(sign * 0.1 * (-u[:, :2] - kl)))).mean()
  assert float(output(objective, mirrored).loss) == pytest.approx(wanted, rel=1e-5)


def test_likelihood_term_summed_or_per_token():
  policy, _ = policy_and_reference()
  lengths = np.array([len(each.answers[0]) for each in pairs()])
  alone = reference()[0]["loss"]
  for nll_mean, wanted in ((False, -policy[:, 0].mean()), (True, -(policy[:, 0] / lengths).mean())):
    objective = make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}, nll_weight=0.2, nll_mean=nll_mean)
    assert float(output(objective, referenced()).loss) == pytest.approx(alone + 0.2 * wanted, rel=1e-5)


def test_averaging_over_length_comes_before_the_loss():
  policy, of_reference = policy_and_reference()
  lengths = np.array([[len(answer) for answer in each.answers] for each in pairs()])
  u = (policy - of_reference) / lengths
  wanted = np.square(u[:, 0] - u[:, 1] - 1 / (2 * 0.1)).mean()
  objective = make_preference_objective(PreferenceLoss.IPO, {"tau": 0.1}, length_averaged=True)
  assert float(output(objective, referenced()).loss) == pytest.approx(wanted, rel=1e-5)


def test_losses_of_means_are_given_means():
  policy, _ = policy_and_reference()
  lengths = np.array([[len(answer) for answer in each.answers] for each in pairs()])
  means = policy / lengths
  wanted = np.logaddexp(0, -(2.5 * (means[:, 0] - means[:, 1]) - 1.375)).mean()
  objective = make_preference_objective(PreferenceLoss.SIMPO, OPTIONS["simpo"])
  assert float(output(objective, referenced()).loss) == pytest.approx(wanted, rel=1e-5)


def test_options_are_those_of_the_function():
  with pytest.raises(InputError, match=r"objective.options.gamma: dpo has no such option, expected beta, label_smoo"):
    make_preference_objective(PreferenceLoss.DPO, {"beta": 0.1, "gamma": 1.0})
  with pytest.raises(InputError, match=r"objective.options.penalty: missing, dpop needs it"):
    make_preference_objective(PreferenceLoss.DPOP, {"beta": 0.1})
  with pytest.raises(InputError, match=r"objective.options.beta: missing, simpo needs it"):
    make_preference_objective(PreferenceLoss.SIMPO, {"gamma": 0.1})
