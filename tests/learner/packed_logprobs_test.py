"""Tests logprobs of packed answers against rows run one by one, at another temperature, with entropies."""

import functools

import jax
import numpy as np
from flax import nnx

from posttrain_jax.learner.packed_logprobs import packed_logprobs
from posttrain_jax.learner.packing import Packing, sizes_of
from posttrain_jax.models.forward import row_hidden
from tests.learner.small_policy import MODEL, TC, TP, G, P, make_batch
from tests.random_params import graph, random_params

TEMPERATURE = 0.7


def test_logprobs_and_entropies_are_those_of_rows_run_one_by_one():
  batch, params = make_batch(), random_params(MODEL)
  packing = Packing(batch, sizes_of(batch, tokens=P * (TP - 1 + G * TC), shards=1, whole_answers=False))
  assert packing.count == 1
  compute = functools.partial(packed_logprobs, graph(MODEL), temperature=TEMPERATURE, chunk=5, entropy=True)
  both = jax.jit(compute)(params, jax.tree.map(lambda x: x[0], packing.rows))
  found, entropies = (np.where(batch.mask, packing.unpack(np.asarray(x)[None]), 0) for x in both)

  @jax.jit
  def logits_of(tokens):
    model = nnx.merge(graph(MODEL), params)
    return jax.nn.log_softmax(row_hidden(model, tokens) @ model.unembedding() / TEMPERATURE)

  places = list(np.ndindex(P, G))
  texts = [np.concatenate([batch.prompts[p, : batch.prompt_lengths[p]], batch.answers[p, g]]) for p, g in places]
  logprobs = np.asarray(logits_of(np.array([np.pad(text, (0, TP + TC - len(text))) for text in texts])), np.float64)
  for (p, g), text, of_text in zip(places, texts, logprobs):
    start = batch.prompt_lengths[p]
    rows, mask = of_text[start - 1 : start - 1 + TC], batch.mask[p, g]
    np.testing.assert_allclose(found[p, g][mask], rows[np.arange(TC), text[start:]][mask], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(entropies[p, g][mask], -(np.exp(rows) * rows).sum(-1)[mask], rtol=1e-4, atol=1e-5)
  assert batch.mask.sum() > P * G
