"""Tests that the held-out loss is the mean over learned tokens, for any batches."""

import jax
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.data.encoding import Example
from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.evaluation.validation import Validation
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from tests.random_params import graph, random_params

MODEL = TransformerConfig(vocab_size=11, num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)


def test_mean_over_the_learned_tokens_of_all_rows():
  rng, params = np.random.default_rng(0), random_params(MODEL)
  examples = [Example(rng.integers(1, 11, size=n).astype(np.int32), np.arange(n) >= 2, f"row {n}") for n in (4, 7, 5)]
  model, total, count = nnx.merge(graph(MODEL), params), 0.0, 0
  for example in examples:
    tokens = example.tokens[None]
    logits = np.asarray(row_hidden(model, tokens) @ model.unembedding(), np.float64)[0]
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for t in range(2, len(example.tokens)):
      total, count = total - logprobs[t - 1, example.tokens[t]], count + 1
  batches = SupervisedBatches(examples, batch_size=2, seed=0, length=8)
  found = Validation(MODEL, batches, make_mesh({}, jax.devices()[:1]), logprob_chunk=4)(params)
  assert found["tokens"] == count and found["loss"] == pytest.approx(total / count, rel=1e-5)
  assert found["perplexity"] == pytest.approx(np.exp(total / count), rel=1e-5)
