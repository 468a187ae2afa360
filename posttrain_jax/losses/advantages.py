"""Names the estimators of advantages from rewards.

Advantages are constants: no gradient flows through any of them.

One per answer, compared with its group: `losses.group_advantages`. One per answer, compared with something else:
`losses.answer_advantages`. One per token: `losses.token_advantages`.

To add an estimator:

1. Write a function whose positional parameters are arrays with names from this list, among them at least one of
   rewards, accuracy and teacher_logprobs:
     rewards, accuracy, lengths, valid                               [P, G], P prompts with G answers each
     mask, old_logprobs, reference_logprobs, teacher_logprobs        [P, G, T]
     greedy_rewards                                                  [P]
   These names may be keyword-only too. The loop computes those that the function takes, and nothing else.
   All further parameters are numbers, keyword-only.
2. It returns [P, G], one advantage per answer, or [P, G, T], one per token, and can be traced by `jax.jit` for any P, G
   and T. What `valid` or the mask leaves out has advantage 0.
3. Make it a public name of this module: import it below, as the others are. There is no other list to extend.
   A config then names it: `advantage`. Its further parameters are fields of `advantage_options`.

`pipelines.advantages.Estimator` finds the function and checks all of this before anything runs. An option without a
default is tried with 1.0, so the function has to accept that number. Functions of this module with other parameters,
such as `gae` and `whiten`, are no estimators.
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
