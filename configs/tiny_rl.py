"""The online RL family on the tiny transformer and the task of configs/tiny_dapo.py, one method an argument.

    python -m experiments.grpo --config=configs/tiny_rl.py:rloo --workdir=runs/rloo

Every method is the same loop (`pipelines.grpo`) and differs in what it names: the estimator of advantages, the
surrogate, what the loss averages over, where the KL goes. 60 steps of 16 prompts x 8 answers, two updates each, the
same learning rate for all; not tuned for each. From one warm-up: `--config.model.path=runs/grpo/warmup
--config.warmup.steps=0`.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo

_GRPO = dict(clip_low=0.2, clip_high=0.2, aggregation="sequence_mean")
_NO_BOUND = 1.0  # of a ratio from below: 1 - 1 = 0

# By field of the config. What is not named is GRPO's, without a KL term.
METHODS = dict(
  # DeepSeekMath, 2402.03300: k3 in the loss.
  grpo=dict(objective=dict(kl_coefficient=0.04)),
  # Understanding R1-Zero-Like Training, 2503.20783: no division by deviation or length.
  dr_grpo=dict(advantage="group_centered", objective=dict(aggregation="fixed_length")),
  # Back to Basics, 2402.14740: leave-one-out baseline, KL in the reward.
  rloo=dict(advantage="leave_one_out", objective=dict(aggregation="sequence_sum"), reference=dict(kl_in_reward=0.01)),
  # REINFORCE++, 2501.03262: no groups; the KL still to come is part of the advantage, which is whitened over the batch.
  reinforce_pp=dict(
    advantage="reinforce_plus_plus",
    advantage_options=dict(kl_coefficient=0.01),
    objective=dict(aggregation="token_mean"),
  ),
  # The same paper's variant for reasoning: group baseline, whitened over the batch, k2 as a loss of its own.
  reinforce_pp_baseline=dict(
    advantage="reinforce_plus_plus_baseline",
    objective=dict(aggregation="token_mean", kl_coefficient=0.01, kl_estimator="k2"),
  ),
  # Group Sequence Policy Optimization, 2507.18071: one ratio an answer, in much tighter bounds.
  gspo=dict(objective=dict(surrogate="sequence_clipped_surrogate", clip_low=3e-4, clip_high=4e-4)),
  # MiniMax-M1, 2506.13585: clipped weights instead of clipped gradients, no lower bound.
  cispo=dict(
    objective=dict(surrogate="clipped_importance_weight", clip_low=_NO_BOUND, clip_high=0.28, aggregation="token_mean")
  ),
  # ReMax, 2310.10505: the reward of the greedy answer is the baseline.
  remax=dict(advantage="remax", objective=dict(aggregation="sequence_sum")),
  # On-Policy RL with Optimal Reward Baseline, 2505.23585: baseline weighted by length.
  opo=dict(advantage="optimal_baseline", objective=dict(aggregation="sequence_sum")),
  # Geometric-Mean Policy Optimization, 2507.20673; bounds on the log ratio.
  gmpo=dict(objective=dict(surrogate="geometric_mean_surrogate", clip_low=0.4, clip_high=0.4)),
  # Soft Adaptive Policy Optimization, 2511.20347: a gate that closes gradually instead of a clip.
  sapo=dict(objective=dict(surrogate="soft_gated_surrogate", surrogate_options=dict(tau_pos=1.0, tau_neg=1.05))),
  # The Entropy Mechanism of RL, 2505.22617: tokens of the largest covariance are clipped, or held by a KL.
  clip_cov=dict(objective=dict(surrogate="clip_cov", surrogate_options=dict(share=2e-3), aggregation="token_mean")),
  kl_cov=dict(objective=dict(surrogate="kl_cov", surrogate_options=dict(share=2e-3), aggregation="token_mean")),
  # Williams, 1992: the gradient of log-likelihood times reward, less the batch's mean; no ratio, no clip.
  reinforce=dict(advantage="batch_centered", objective=dict(surrogate="reinforce", aggregation="sequence_sum")),
  # Rejection-sampling fine-tuning: the likelihood of right answers, nothing from wrong ones.
  rft=dict(advantage="positive_only", objective=dict(surrogate="reinforce", aggregation="token_mean")),
)


def get_config(arg: str = "") -> ConfigDict:
  method = arg or "grpo"
  if method not in METHODS:
    raise ValueError(f"{arg!r}, expected one of {', '.join(METHODS)}")
  config = tiny_dapo.get_config()
  config.dynamic_sampling.enabled = False
  config.overlong.penalty_buffer = 0
  config.objective.update(_GRPO)
  for name, value in METHODS[method].items():
    if isinstance(value, dict):
      config[name].update(value)
    else:
      config[name] = value
  return config
