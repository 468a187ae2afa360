"""Tests that updates in the null space of general data leave what the model says there as it was."""

import dataclasses
import functools
import types

import jax
import numpy as np
import pytest

from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.evaluation.general_text import logit_moves, second_moments
from posttrain_jax.learner import null_space, supervised
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.null_space import NullSpaces, NullSpaceSettings
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config
from tests.random_params import graph, names, random_params

MODEL = TransformerConfig(18, num_layers=2, embed_dim=24, mlp_dim=32, num_heads=2, num_kv_heads=2, head_dim=8)
PARAMS = random_params(MODEL)
GENERAL = [np.array([1, 5, 9, 3]), np.array([2, 2, 16, 7, 4, 11])]  # ten tokens, fewer than the width
NEW = [np.array([8, 6, 13, 3, 1])]


def policy(params):
  return types.SimpleNamespace(model=MODEL, params=params)


def spaces(threshold=0.0, texts=GENERAL):
  sums, _ = second_moments(policy(PARAMS), texts)
  moved, ranks = {}, {}
  for name, moments in sums.items():
    found = [null_space.null_space(each, threshold) for each in moments]
    widest = max(columns.shape[1] for columns, _ in found)
    moved[name] = np.stack([np.pad(each, [(0, 0), (0, widest - each.shape[1])]) for each, _ in found])
    ranks[name] = np.array([rank for _, rank in found])
  return NullSpaces({name: each.astype(np.float32) for name, each in moved.items()}, ranks)


def batch():
  rng = np.random.default_rng(0)
  mask = np.arange(6) > np.zeros((4, 1))
  tokens = rng.integers(0, 17, (4, 6)).astype(np.int32)
  positions = np.tile(np.arange(6, dtype=np.int32), (4, 1))
  ones = np.ones((4, 6), np.int32)
  return SupervisedBatch(tokens, mask, ones, positions, mask.astype(np.float32), np.arange(4, dtype=np.int32))


def learner(path="", *, mlp_alone=True, mesh=None, **options):
  used = NullSpaceSettings(path=str(path), mlp_alone=mlp_alone) if path else None
  return BatchLearner(
    MODEL,
    supervised.make_loss(graph(MODEL), logprob_chunk=64),
    functools.partial(supervised.pack_rows, 1),
    dataclasses.replace(make_optimizer_config(learning_rate=0.02, weight_decay=0.1), null_space=used),
    mesh or make_mesh({}, jax.devices()[:1]),
    max_skipped_updates=2,
    seed=0,
    params=jax.tree.map(np.asarray, PARAMS),
    **options,
  )


def trained(path="", updates=12, **options):
  one = learner(path, **options)
  losses = [one.train(batch())["loss"] for _ in range(updates)]
  return jax.device_get(one.state.params), losses


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp("null") / "null_space.npz"
  null_space.save(path, spaces())
  return path


def test_logits_on_general_data_do_not_move_and_the_loss_falls(file):
  before = np.abs(np.asarray(names(PARAMS)["blocks.mlp.down"])).max()
  bound, losses = trained(file)
  free, _ = trained()
  assert losses[-1] < losses[0] / 2
  kept = logit_moves(policy(bound), policy(PARAMS), GENERAL)
  assert kept.max() < 2e-4  # of logits around 10: rounding
  assert logit_moves(policy(bound), policy(PARAMS), NEW).max() > 1.0
  assert logit_moves(policy(free), policy(PARAMS), GENERAL).min() > 1.0
  moved = names(jax.tree.map(lambda one, other: np.abs(one - other).max(), bound, PARAMS))
  assert {name for name, most in moved.items() if most > 0} == {f"blocks.mlp.{name}" for name in ("gate", "up", "down")}
  assert min(most for most in moved.values() if most > 0) > 0.01 * before


def test_all_else_may_be_trained_without_a_bound(file):
  params, _ = trained(file, 2, mlp_alone=False)
  moved = names(jax.tree.map(lambda one, other: np.abs(one - other).max(), params, PARAMS))
  assert min(moved.values()) > 0
  change = np.asarray(names(params)["blocks.mlp.gate"]) - np.asarray(names(PARAMS)["blocks.mlp.gate"])
  along = np.einsum("lir,lio->lro", spaces().moved["input"], change)
  assert np.abs(along).max() < 1e-5 < np.abs(change).max()


def test_sharded_updates_are_the_same(file):
  mesh = make_mesh({"fsdp": 2, "tensor": 2}, jax.devices()[:4])
  one, _ = trained(file, 3)
  other, _ = trained(file, 3, mesh=mesh)
  for name, expected in names(one).items():
    np.testing.assert_allclose(names(other)[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_directions_are_part_of_the_state(file):
  found = [part for part in jax.tree.leaves(learner(file).state.opt_state, is_leaf=_is_kept) if _is_kept(part)]
  (state,) = found
  for name, expected in spaces().moved.items():
    np.testing.assert_array_equal(state.moved[name].get_value(), expected)


def _is_kept(part):
  return isinstance(part, null_space.NullSpaceState)


def test_the_rank_of_the_null_space():
  rng = np.random.default_rng(0)
  rows = rng.normal(size=(5, 12))
  columns, rank = null_space.null_space(rows.T @ rows, 0.0)
  assert rank == 7 and columns.shape == (12, 5)
  np.testing.assert_allclose(columns.T @ columns, np.eye(5), atol=1e-12)
  np.testing.assert_allclose(rows - rows @ columns @ columns.T, 0, atol=1e-12)  # all of the data lies in them
  small = np.diag([1.0, 1e-3, 4e-5, 1e-6])
  assert null_space.null_space(small, 0.0)[1] == 0 and null_space.null_space(small, 5e-5)[1] == 2
  assert null_space.null_space(np.zeros((3, 3)), 0.0)[1] == 3


def test_with_rank_0_the_matrices_do_not_learn(tmp_path):
  full = {name: np.stack([np.eye(width)] * 2).astype(np.float32) for name, width in (("input", 24), ("hidden", 32))}
  null_space.save(tmp_path / "full.npz", NullSpaces(full, {name: np.zeros(2, int) for name in full}))
  params, _ = trained(tmp_path / "full.npz", 2)
  for name, each in names(params).items():
    np.testing.assert_allclose(each, names(PARAMS)[name], atol=1e-6, err_msg=name)


def test_other_sizes_and_other_files_are_refused(tmp_path, file):
  other = TransformerConfig(18, num_layers=1, embed_dim=24, mlp_dim=32, num_heads=2, num_kv_heads=2, head_dim=8)
  state = random_params(other)
  with pytest.raises(InputError, match=r"null_space.path: is for 2 layers with 24 inputs of mlp.gate, the model has 1"):
    null_space.in_null_space(null_space.load(str(file)), mlp_alone=True).init(state)
  (tmp_path / "text").write_text("no arrays")
  for path in (tmp_path / "text", tmp_path / "missing"):
    with pytest.raises(InputError, match=r"optimizer.null_space.path: .* cannot be read .*, expected null_space.npz"):
      learner(path)
