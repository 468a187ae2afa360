"""Tests that ids without a token have probability 0 for the sampler and for every loss alike."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from posttrain_jax.data.comparison_batches import ComparisonBatch
from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.evaluation.reference_logprobs import compute_logprobs
from posttrain_jax.learner import supervised
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.packed_logprobs import packed_logprobs
from posttrain_jax.learner.packing import Packing, sizes_of
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.scoring import plain_logprob_scorer
from posttrain_jax.parallel.mesh import make_mesh
from tests.random_params import graph
from tests.sampling import small_engine
from tests.sampling.small_engine import CONFIG, MAX_NEW, new_engine, prompts

# Half of the vocabulary has no token: a hole in the middle, and the end.
PADDED = dataclasses.replace(CONFIG, absent_ids=((20, 40), (54, 68)))
ABSENT = np.array([20 <= i < 40 or i >= 54 for i in range(68)])


@pytest.fixture(scope="module")
def sampled():
  """Returns sampled groups, and logits of a plain model without those of absent ids."""
  groups = new_engine(PADDED).generate(prompts(6), 3)
  tokens, lengths, answers = small_engine.padded(groups)
  logits = np.where(ABSENT, -np.inf, small_engine.learner_logits(CONFIG, tokens, lengths, answers))
  return groups, (tokens, lengths, answers), np.asarray(jax.nn.log_softmax(logits))


@pytest.fixture(scope="module")
def expected(sampled):
  _, (_, _, answers), logprobs = sampled
  return np.take_along_axis(logprobs, answers[..., None], axis=-1)[..., 0]


@pytest.fixture(scope="module")
def mask(sampled):
  groups = sampled[0]
  return np.array([np.arange(MAX_NEW) < group.lengths[:, None] for group in groups])


def test_no_absent_id_is_drawn_and_logprobs_are_those_without_them(sampled, expected):
  drawn = set()
  for group, wanted in zip(sampled[0], expected):
    for answer, each in zip(group.answers, wanted):
      drawn |= set(answer.tokens.tolist())
      np.testing.assert_allclose(answer.sampler_logprobs, each[: len(answer.tokens)], atol=1e-4)
  assert len(drawn) > 20 and not ABSENT[list(drawn)].any()


def test_the_learners_logprobs_and_entropies_leave_them_out_too(sampled, expected, mask):
  _, (tokens, lengths, answers), logprobs = sampled
  zeros = np.zeros(answers.shape, np.float32)
  batch = PolicyBatch(tokens, lengths, answers, mask, zeros[..., :1], zeros)
  packing = Packing(batch, sizes_of(batch, tokens=6 * (tokens.shape[1] + 3 * MAX_NEW), shards=1, whole_answers=False))
  rows = jax.tree.map(lambda x: x[0], packing.rows)
  program = jax.jit(functools.partial(packed_logprobs, graph(PADDED), chunk=1024, entropy=True))
  both = program(small_engine.stacked_params(CONFIG), rows)
  found, entropies = (packing.unpack(np.asarray(x)[None]) for x in both)
  np.testing.assert_allclose(np.where(mask, found, 0), np.where(mask, expected, 0), atol=1e-4)
  wanted = -np.where(ABSENT, 0, np.exp(logprobs) * np.where(ABSENT, 0, logprobs)).sum(-1)
  np.testing.assert_allclose(np.where(mask, entropies, 0), np.where(mask, wanted, 0), atol=1e-4)


def test_the_reference_of_comparisons_leaves_them_out_too(sampled, expected, mask):
  _, (tokens, lengths, answers), _ = sampled
  fields = dict.fromkeys((field.name for field in dataclasses.fields(ComparisonBatch)), np.arange(6))
  batch = ComparisonBatch(**fields | dict(prompts=tokens, prompt_lengths=lengths, answers=answers, mask=mask))
  mesh, division = make_mesh({}, jax.devices()[:1]), Division(6, tokens.shape[1] + 3 * MAX_NEW)
  scorer = plain_logprob_scorer(PADDED, mesh, division, chunk=64)
  found = compute_logprobs(scorer, small_engine.stacked_params(CONFIG), [batch], 6)
  np.testing.assert_allclose(found, np.where(mask, expected, 0).sum(-1), atol=1e-4)


def test_supervised_training_leaves_them_out_too(sampled, expected):
  group = sampled[0][-1]
  row = np.array([[*group.prompt.tokens, *group.answers[0].tokens]], np.int32)
  learned = np.arange(row.shape[1])[None] >= len(group.prompt.tokens)
  ones, places = np.ones_like(row), np.arange(row.shape[1], dtype=np.int32)[None]
  batch = SupervisedBatch(row, learned, ones, places, learned.astype(np.float32), np.zeros((1,), np.int32))
  params, count = small_engine.stacked_params(CONFIG), len(group.answers[0].tokens)
  total, tokens = supervised.make_sums(graph(PADDED), logprob_chunk=64)(params, batch)
  assert tokens == count
  np.testing.assert_allclose(total, -expected[-1, 0, :count].sum(), atol=1e-4)
  loss = supervised.make_loss(graph(PADDED), logprob_chunk=64)(params, batch, np.float32(1)).loss
  np.testing.assert_allclose(loss, total, atol=1e-4)
