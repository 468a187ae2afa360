"""Policy-gradient surrogates and the weights that correct them for stale or mismatched samplers.

ρ_t = π_learner / π_old is the ratio of token t; A_t its advantage. Every surrogate takes (learner_logprobs,
old_logprobs, advantages, mask) and numbers by keyword, and returns one loss per token, to be minimised after an
aggregate (`losses.aggregate`). Advantages, old and sampler logprobs are constants: no gradient flows into them.

One ratio per token: `losses.token_surrogates`; one per answer: `losses.sequence_surrogates`; with a hold on the tokens
that lower the entropy most: `losses.entropy_control`. Weights for the sampler: `losses.sampler_correction`.

Deviation from the papers: ratios are clipped as logarithms, and at e²⁰ where nothing else bounds them
(`losses.policy_ratios`).
"""

from posttrain_jax.losses.entropy_control import clip_cov as clip_cov
from posttrain_jax.losses.entropy_control import kl_cov as kl_cov
from posttrain_jax.losses.sampler_correction import importance_correction as importance_correction
from posttrain_jax.losses.sequence_surrogates import geometric_mean_surrogate as geometric_mean_surrogate
from posttrain_jax.losses.sequence_surrogates import sequence_clipped_surrogate as sequence_clipped_surrogate
from posttrain_jax.losses.token_surrogates import clipped_importance_weight as clipped_importance_weight
from posttrain_jax.losses.token_surrogates import clipped_surrogate as clipped_surrogate
from posttrain_jax.losses.token_surrogates import reinforce as reinforce
from posttrain_jax.losses.token_surrogates import soft_gated_surrogate as soft_gated_surrogate
