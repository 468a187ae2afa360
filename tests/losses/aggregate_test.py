import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import aggregate

fixed_length = functools.partial(aggregate.fixed_length, max_length=10)
AGGREGATES = [
  aggregate.token_mean,
  aggregate.prompt_mean,
  aggregate.sequence_mean,
  aggregate.sequence_sum,
  fixed_length,
]
each_aggregate = pytest.mark.parametrize("mean", AGGREGATES)


def denominator(mean, mask):
  """Returns what the aggregate divides the whole update by."""
  if mean is aggregate.token_mean:
    return mask.sum()
  return mask.any(axis=(1, 2)).sum() if mean is aggregate.prompt_mean else mask.any(axis=-1).sum()


def example(prompts=8):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(prompts, 3, 5)).astype(np.float32)
  mask = rng.random((prompts, 3, 5)) < 0.6
  mask[0], mask[1, 0] = False, False  # a prompt and a row without a counted token
  return x, mask


def test_by_hand():
  # Prompt 1 has rows [1 2 3] and [4 . .]; prompt 2 has [6 . 8] (a hole) and an empty row.
  x = np.array([[[1.0, 2, 3], [4, 99, 99]], [[6, 99, 8], [99, 99, 99]]])
  mask = np.array([[[1, 1, 1], [1, 0, 0]], [[1, 0, 1], [0, 0, 0]]])
  np.testing.assert_allclose(aggregate.token_mean(x, mask), (1 + 2 + 3 + 4 + 6 + 8) / 6)
  np.testing.assert_allclose(aggregate.prompt_mean(x, mask), ((1 + 2 + 3 + 4) / 4 + (6 + 8) / 2) / 2)
  np.testing.assert_allclose(aggregate.sequence_mean(x, mask), (6 / 3 + 4 / 1 + 14 / 2) / 3, rtol=1e-6)
  np.testing.assert_allclose(aggregate.sequence_sum(x, mask), (6 + 4 + 14) / 3)
  np.testing.assert_allclose(fixed_length(x, mask), (6 + 4 + 14) / (3 * 10), rtol=1e-6)


@each_aggregate
@pytest.mark.parametrize("parts", [1, 4])
def test_micro_batches_add_up(mean, parts, x64):
  x, mask = example()
  x = np.asarray(x, np.float64)
  total = denominator(mean, mask)
  pieces = zip(np.split(x, parts), np.split(mask, parts))
  whole, gradient = jax.value_and_grad(mean)(x, mask)
  np.testing.assert_allclose(sum(mean(*piece, denominator=total) for piece in pieces), whole, rtol=1e-14)
  pieces = zip(np.split(x, parts), np.split(mask, parts))
  gradients = [jax.grad(functools.partial(mean, denominator=total))(*piece) for piece in pieces]
  np.testing.assert_allclose(np.concatenate(gradients), gradient, rtol=1e-14)


@each_aggregate
def test_nothing_counted_gives_zero(mean):
  x, mask = example()
  for counted, total in [(0 * mask, None), (0 * mask, 0), (0 * mask, 7), (mask, 0)]:
    loss, gradient = jax.value_and_grad(functools.partial(mean, denominator=total))(x, counted)
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(x))


@each_aggregate
def test_masked_entries_do_not_matter(mean):
  x, mask = example()
  loss, gradient = jax.value_and_grad(mean)(x, mask)
  np.testing.assert_array_equal(gradient[~mask], 0)
  for bad in (np.nan, np.inf, 1e38):
    bad_loss, bad_gradient = jax.value_and_grad(mean)(np.where(mask, x, bad), mask)
    assert bad_loss == loss
    np.testing.assert_array_equal(bad_gradient, gradient)


@each_aggregate
def test_empty_rows_and_prompts_are_not_counted(mean):
  x, mask = example()
  np.testing.assert_allclose(mean(x[1:], mask[1:]), mean(x, mask), rtol=1e-6)  # prompt 0 has no counted token
  if mean is not aggregate.prompt_mean:
    rows = mask.any(axis=-1)
    np.testing.assert_allclose(mean(x[rows], mask[rows]), mean(x, mask), rtol=1e-6)


@each_aggregate
def test_jit_dtypes_and_denominators_that_are_arrays(mean):
  x, mask = example()
  expected = mean(x, mask)
  assert expected.shape == () and expected.dtype == jnp.float32
  total = denominator(mean, mask)
  jitted = jax.jit(lambda x, mask, total: mean(x, mask, denominator=total))
  for each in (int(total), jnp.asarray(total, jnp.int32), jnp.asarray(total, jnp.float32)):
    np.testing.assert_allclose(jitted(x, mask, each), expected, rtol=1e-6)
  np.testing.assert_array_equal(mean(x, mask.astype(np.float32)), expected)
  # bfloat16 inputs are summed in float32.
  low = jnp.asarray(x, jnp.bfloat16)
  assert mean(low, mask).dtype == jnp.float32
  np.testing.assert_allclose(mean(low, mask), mean(low.astype(jnp.float32), mask), rtol=1e-6)


def test_bfloat16_sums_do_not_stall():
  # In bfloat16 256 + 1 is 256 again.
  np.testing.assert_allclose(aggregate.sequence_sum(jnp.ones((1, 1000), jnp.bfloat16), jnp.ones((1, 1000))), 1000.0)


def test_prompt_mean_wants_prompts():
  with pytest.raises(AssertionError):
    aggregate.prompt_mean(np.zeros((2, 3)), np.ones((2, 3)))


def by_definition(name, x, mask, *, denominator=None, prompt_tokens=None, max_length=10):
  """Computes the aggregate of x [P, G, T] by its definition, with loops, in float64."""
  mask = np.asarray(mask) != 0
  if name == "token_mean":
    parts, total = [x[mask].sum()], mask.sum()
  elif name == "prompt_mean":
    counts = mask.sum((1, 2)) if prompt_tokens is None else prompt_tokens[:, 0]
    parts = [x[p][mask[p]].sum() / counts[p] for p in range(len(x)) if mask[p].any()]
    total = mask.any((1, 2)).sum()
  else:
    rows = [(x[p, g][mask[p, g]].sum(), mask[p, g].sum()) for p in range(len(x)) for g in range(x.shape[1])]
    rows = [(found, count) for found, count in rows if count]
    divisor = {"sequence_mean": lambda count: count, "sequence_sum": lambda count: 1}
    parts = [found / divisor.get(name, lambda count: max_length)(count) for found, count in rows]
    total = len(rows)
  total = total if denominator is None else denominator
  return sum(parts) / total if total else 0.0


@pytest.mark.parametrize("aggregation", aggregate.Aggregation)
@pytest.mark.parametrize("total", [None, 0, 37])
@pytest.mark.parametrize("spread", [False, True])
def test_weights_are_those_of_the_definition(aggregation, total, spread, x64):
  """Covers holes, an empty row, an empty prompt, given denominators and 0.

  Other answers of some prompts are elsewhere.
  """
  rng = np.random.default_rng(2)
  mask = rng.random((4, 3, 5)) < 0.6
  mask[0], mask[1, 0], mask[2] = False, False, True
  x = rng.normal(size=mask.shape)
  options = dict(denominator=total)
  if aggregation == "prompt_mean" and spread:
    options = dict(denominator=9 if total is None else total, prompt_tokens=mask.sum((1, 2)) + np.array([4, 0, 3, 1]))
    options["prompt_tokens"] = np.repeat(options["prompt_tokens"][:, None], 3, axis=1)  # of each answer's prompt
  expected = by_definition(aggregation, x, mask, **options)
  expected_gradient = np.zeros_like(x)
  for index in np.ndindex(*x.shape):  # linear: the gradient is the aggregate of each token alone
    expected_gradient[index] = by_definition(
      aggregation, np.eye(x.size)[np.ravel_multi_index(index, x.shape)].reshape(x.shape), mask, **options
    )
  constant = dict(max_length=10) if aggregation == "fixed_length" else {}

  weights = jax.jit(lambda mask: aggregate.token_weights(mask, aggregation, dtype=jnp.float64, **options, **constant))
  np.testing.assert_allclose(weights(mask), expected_gradient, rtol=1e-14)
  np.testing.assert_allclose(weights(mask.astype(np.float32)), expected_gradient, rtol=1e-14)
  named = functools.partial(getattr(aggregate, aggregation), mask=mask, **options, **constant)
  value, gradient = jax.value_and_grad(named)(x)
  np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-16)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-14)


@pytest.mark.parametrize("aggregation", aggregate.Aggregation)
def test_tokens_cut_apart_weigh_as_in_their_answers(aggregation):
  mask = np.random.default_rng(2).random((4, 3, 5)) < 0.6
  mask[0, 0], mask[1] = False, False
  totals = {"token_mean": mask.sum(), "prompt_mean": mask.any((1, 2)).sum()}
  options = dict(denominator=int(totals.get(aggregation, mask.any(-1).sum())), max_length=7)
  whole = aggregate.token_weights(mask, aggregation, **options)
  places = np.random.default_rng(0).permutation(mask.size)  # each token is a row of its own
  spread = lambda x: np.broadcast_to(x, mask.shape).ravel()[places].reshape(6, 10)  # noqa: E731
  apart = aggregate.token_weights(
    spread(mask)[..., None],
    aggregation,
    row_tokens=spread(mask.sum(-1, keepdims=True)),
    prompt_tokens=spread(mask.sum((1, 2), keepdims=True)),
    **options,
  )
  np.testing.assert_allclose(apart[..., 0], spread(np.asarray(whole)), rtol=1e-6)


def test_weights_are_float32_and_need_what_they_divide_by():
  mask = np.ones((2, 3, 4), bool)
  for aggregation in aggregate.Aggregation:
    weights = aggregate.token_weights(mask, aggregation, max_length=4)
    assert weights.dtype == jnp.float32 and weights.shape == mask.shape
    assert float(weights.sum()) == pytest.approx(4 if aggregation == "sequence_sum" else 1)
  with pytest.raises(ValueError, match="max_length: missing"):
    aggregate.token_weights(mask, "fixed_length")
  with pytest.raises(ValueError, match="denominator: missing"):
    aggregate.token_weights(mask, "prompt_mean", prompt_tokens=np.full((2, 3), 12))
  with pytest.raises(ValueError, match="denominator: missing"):
    aggregate.token_weights(mask, "sequence_mean", row_tokens=np.full((2, 3), 4))
  with pytest.raises(ValueError, match="'mean' is not a valid Aggregation"):
    aggregate.token_weights(mask, "mean")


def test_total_is_at_least_float32():
  assert aggregate.total(jnp.ones((3000,), jnp.bfloat16)) == 3000


def test_float32_sums_over_a_million_tokens_are_right():
  rng = np.random.default_rng(0)
  x, mask = rng.random((3, 16, 20_480), np.float32) + 0.1, rng.random((3, 16, 20_480)) < 0.9
  mask[0, 0] = False
  exact, rows = np.where(mask, x, np.float64(0)), mask.any(-1)
  tokens = np.maximum(mask.sum(-1), 1)
  for found, wanted in (
    (aggregate.token_mean(x, mask), exact.sum() / mask.sum()),
    (aggregate.prompt_mean(x, mask), (exact.sum((1, 2)) / mask.sum((1, 2))).mean()),
    (aggregate.sequence_mean(x, mask), (exact.sum(-1) / tokens).sum() / rows.sum()),
    (aggregate.sequence_sum(x, mask), exact.sum() / rows.sum()),
    (aggregate.fixed_length(x, mask, max_length=20_480), exact.sum() / rows.sum() / 20_480),
  ):
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
