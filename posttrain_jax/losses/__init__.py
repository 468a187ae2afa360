"""Losses, estimators and rewards as pure functions of arrays: no model, no config, nothing but jax and chex."""

from posttrain_jax.losses import advantages as advantages
from posttrain_jax.losses import aggregate as aggregate
from posttrain_jax.losses import kl as kl
from posttrain_jax.losses import logprobs as logprobs
from posttrain_jax.losses import policy as policy
from posttrain_jax.losses import preference as preference
from posttrain_jax.losses import rewards as rewards
from posttrain_jax.losses import supervised as supervised
from posttrain_jax.losses import token_loss as token_loss
from posttrain_jax.losses import token_surrogates as token_surrogates
from posttrain_jax.losses import value as value
