"""Computes losses of packed answers for a policy that may be a lookup of the token before (fixture `lookup`)."""

import dataclasses
import functools

import jax
import numpy as np

from posttrain_jax.learner.policy_gradient import make_loss
from posttrain_jax.models.config import TransformerConfig
from tests.learner.small_policy import WHOLE, make_batch, pack
from tests.random_params import graph, random_params

SMALL = TransformerConfig(17, num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)


@functools.cache
def off_policy_batch():
  """Makes two prompts with holes and an empty answer, and ratios on both sides of every clip."""
  made, rng = make_batch(3, prompts=2), np.random.default_rng(4)
  mask = made.mask & (rng.random(made.mask.shape) < 0.8)
  mask[0, 0], mask[1, 1] = False, True
  old = rng.normal(-2.8, 0.4, mask.shape).astype(np.float32)
  return dataclasses.replace(made, mask=mask, old_logprobs=old)


def before(batch):
  """Returns the token before each answer token, [P, G, Tc]."""
  last = np.take_along_axis(batch.prompts, batch.prompt_lengths[:, None] - 1, axis=1)
  return np.concatenate([np.broadcast_to(last[..., None], (*batch.answers.shape[:2], 1)), batch.answers[..., :-1]], -1)


def of_packed(objective, batch, *, tokens=WHOLE, shards=1, on_policy=False):
  """Returns the loss, its gradient and the metrics of an update in packed rows."""
  packed, loss = (
    pack(batch, objective, tokens=tokens, shards=shards),
    make_loss(graph(SMALL), objective, on_policy=on_policy),
  )

  def scalar(params, part):
    output = loss(params, part, packed.totals)
    return output.loss, (output.sums, output.maxima)

  compute = jax.jit(jax.value_and_grad(scalar, has_aux=True))
  found = [compute(random_params(SMALL), jax.tree.map(lambda x, i=i: x[i], packed.parts)) for i in range(packed.count)]
  loss, gradient = jax.tree.map(lambda *x: sum(x), *((each[0][0], each[1]) for each in found))
  sums = jax.tree.map(lambda *x: sum(x), *(each[0][1][0] for each in found))
  maxima = jax.tree.map(lambda *x: max(x), *(each[0][1][1] for each in found))
  return (loss, gradient, sums, maxima), packed.count
