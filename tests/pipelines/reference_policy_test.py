"""Tests the KL to a frozen reference, from answers and the sampler's logprobs of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.evaluation.reference_logprobs import KLToReference, frozen_copy
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from tests.pipelines.made_groups import answer, group
from tests.random_params import graph, names, random_params

MODEL = TransformerConfig(24, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=2, num_kv_heads=1, head_dim=8)


@jax.jit
def all_logprobs(params, rows):
  model = nnx.merge(graph(MODEL), params)
  return jax.nn.log_softmax(row_hidden(model, rows) @ model.unembedding())


def row_logprobs(params, prompt, tokens):
  row = np.array([*prompt, *tokens], np.int32)
  logprobs = np.asarray(all_logprobs(params, np.pad(row, (0, 12 - len(row)))[None]))[0]  # one shape for all rows
  return logprobs[np.arange(len(prompt) - 1, len(row) - 1), tokens]


def test_the_kl_is_the_mean_over_answers_of_all_groups():
  mesh, reference, policy = make_mesh({}, jax.devices()[:1]), random_params(MODEL), random_params(MODEL, seed=1)
  kl = KLToReference(MODEL, reference, mesh, chunk=8)

  def drawn(params, prompt, tokens):
    logprobs = row_logprobs(params, prompt, tokens).astype(np.float32)
    return dataclasses.replace(answer(tokens), sampler_logprobs=logprobs)

  def groups(params, count):
    draws = np.random.default_rng(0)
    prompts = [tuple(draws.integers(3, 24, draws.integers(1, 5)).tolist()) for _ in range(count)]
    texts = [[draws.integers(3, 24, draws.integers(1, 7)).tolist() for _ in range(2)] for _ in range(count)]
    return [
      group([drawn(params, prompt, tokens) for tokens in both], [0, 1], prompt=prompt)
      for prompt, both in zip(prompts, texts)
    ]

  assert kl(groups(reference, 3)) == pytest.approx(0, abs=1e-5)
  many = groups(policy, 17)  # more than a batch
  differences = [
    each.sampler_logprobs.sum() - row_logprobs(reference, one.prompt.tokens, each.tokens).sum()
    for one in many
    for each in one.answers
  ]
  assert kl(many) == pytest.approx(np.mean(differences), rel=1e-4)


def test_a_frozen_copy_outlives_what_it_was_copied_from():
  params = jax.tree.map(jnp.asarray, random_params(MODEL))
  expected = {name: np.asarray(leaf) for name, leaf in names(params).items()}
  copy = frozen_copy(params)
  jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)(params)
  for name, leaf in names(copy).items():
    np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
