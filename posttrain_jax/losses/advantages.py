"""Advantages of answers, from rewards. They are constants: no gradient flows through any of them.

One per answer, compared with its group: `losses.group_advantages`; with something else: `losses.answer_advantages`. One
per token: `losses.token_advantages`.
"""

from posttrain_jax.losses.answer_advantages import batch_centered as batch_centered
from posttrain_jax.losses.answer_advantages import positive_only as positive_only
from posttrain_jax.losses.answer_advantages import remax as remax
from posttrain_jax.losses.group_advantages import group_centered as group_centered
from posttrain_jax.losses.group_advantages import group_normalized as group_normalized
from posttrain_jax.losses.group_advantages import informative_groups as informative_groups
from posttrain_jax.losses.group_advantages import leave_one_out as leave_one_out
from posttrain_jax.losses.group_advantages import optimal_baseline as optimal_baseline
from posttrain_jax.losses.token_advantages import distillation as distillation
from posttrain_jax.losses.token_advantages import gae as gae
from posttrain_jax.losses.token_advantages import length_adaptive_lambda as length_adaptive_lambda
from posttrain_jax.losses.token_advantages import reinforce_plus_plus as reinforce_plus_plus
from posttrain_jax.losses.token_advantages import reinforce_plus_plus_baseline as reinforce_plus_plus_baseline
from posttrain_jax.losses.token_advantages import whiten as whiten
