"""Holds a tiny judge of chain arithmetic with random parameters, and an engine whose judgements are given."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posttrain_jax.data.judgements import JUDGE_SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from tests.pipelines.made_groups import answer, group
from tests.random_params import random_params

TOKENIZER = tiny_tokenizer(JUDGE_SYMBOLS)
MODEL = TransformerConfig(
  vocab_size=TOKENIZER.vocab_size, num_layers=2, embed_dim=16, mlp_dim=32, num_heads=2, num_kv_heads=1, head_dim=8
)


@functools.cache
def params() -> nnx.State:
  """Returns the judge's parameters in the sampler's layout."""
  given = random_params(MODEL)
  mesh = make_mesh({}, jax.devices()[:1])
  return make_handover(given, num_layers=MODEL.num_layers, dtype="float32", mesh=mesh)(given)


class Scripted:
  """Gives the same judgements under any parameters.

  Attributes:
    judgements: texts of each question.
    asked: the questions of the latest call.
  """

  def __init__(self, judgements):
    self.judgements = judgements

  def load(self, params, version):
    self.loaded = (params, version)

  def unload(self):
    pass

  def generate(self, prompts, count):
    self.asked = list(prompts)
    made = [[answer([*TOKENIZER.encode(text), TOKENIZER.eos_id]) for text in each] for each in self.judgements]
    assert all(len(each) == count for each in made)
    return [
      dataclasses.replace(group(each, [0.0] * count), prompt=prompt) for prompt, each in zip(prompts, made, strict=True)
    ]


@jax.jit
def _logits(tokens):
  transformer = nnx.merge(abstract_transformer(MODEL)[0], random_params(MODEL))
  return row_hidden(transformer, tokens)[0, -1] @ transformer.unembedding()


def expected_alone(text: str, scores: str) -> float:
  """Computes the mean score after a text by itself, from its logits in float64."""
  logits = np.asarray(_logits(jnp.array([TOKENIZER.encode(text)])), np.float64)
  odds = np.exp(logits[TOKENIZER.encode(scores)])
  return float(odds @ np.array([int(score) for score in scores]) / odds.sum())
