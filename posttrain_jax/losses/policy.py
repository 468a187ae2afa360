"""Names the policy-gradient surrogates, and the weights for stale or mismatched samplers.

ρ_t = π_learner / π_old is the ratio of token t; A_t its advantage. Every surrogate takes (learner_logprobs,
old_logprobs, advantages, mask) and numbers by keyword, and returns one loss per token, to be minimised after an
aggregate (`losses.aggregate`). Advantages, old and sampler logprobs are constants: no gradient flows into them.

One ratio per token: `losses.token_surrogates`. One per answer: `losses.sequence_surrogates`. With a hold on the tokens
that lower the entropy most: `losses.entropy_control`. Weights for the sampler: `losses.sampler_correction`.

To add a surrogate:

1. Write a function with exactly these first four parameters, in this order: learner_logprobs, old_logprobs, advantages,
   mask. It returns losses of the mask's shape, 0 where the mask is 0. `losses.policy_ratios.log_ratio` checks and masks
   the arguments. All further parameters are numbers and keyword-only.
2. Make it a public name of this module: import it below, as the others are. There is no other list to extend.
   A config then names it: `objective.surrogate`.
3. Parameters called clip_low, clip_high and dual_clip get the objective's fields of these names. All others are fields
   of `objective.surrogate_options`; one without a default must be there.
4. If the loss of a token depends on that token's numbers alone, decorate the function with
   `losses.surrogate.per_token_surrogate`: its gradient is then made in the forward pass, which saves a product with the
   unembedding. Leave the mark out if in doubt; the result is right without it. With the mark at a function that looks
   at other tokens, the gradient is wrong and no error says so, but tests/learner/policy_gradient_test.py fails: it
   trains every surrogate of this module with chunks of several sizes.

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
