"""Computes losses, estimators and rewards: pure functions of arrays, without a model or a config."""

from posttrain_jax.losses import advantages as advantages
from posttrain_jax.losses import aggregate as aggregate
from posttrain_jax.losses import fused_loss as fused_loss
from posttrain_jax.losses import kl as kl
from posttrain_jax.losses import logprobs as logprobs
from posttrain_jax.losses import policy as policy
from posttrain_jax.losses import preference as preference
from posttrain_jax.losses import rewards as rewards
from posttrain_jax.losses import supervised as supervised
from posttrain_jax.losses import value as value
