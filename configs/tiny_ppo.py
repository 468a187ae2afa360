"""PPO on a tiny transformer: a warm-up on demonstrations, then policy and value model on the verifier's rewards.

python -m experiments.ppo --workdir=runs/ppo

The KL to the warm-up's policy is charged token by token in the reward, the value model starts from that policy with its
head at zero, and two steps train it alone.

Held-out avg@8 after 0, 20 and 40 steps: seed 0 0.455 [0.41, 0.50], 0.940, 0.949 [0.93, 0.96]; seed 1 0.479, 0.931,
0.939 [0.92, 0.96]; seed 2 0.483, 0.919, 0.926 [0.90, 0.95]; greedy 0.43 -> 0.99, 0.43 -> 0.97, 0.45 -> 0.95; KL to the
warm-up 1.4 to 1.6 nats an answer. 165 s with the warm-up on two shared cores (seed 0); seeds 1 and 2 started from a
warm-up of the same config that was run before (--config.model.path=WARM_UP --config.warmup.steps=0), 109 s the faster.
At this rate the values explain little of the returns' variance; with --config.value.optimizer.learning_rate=2e-3 about
0.3 after 5 steps, and the same accuracy (seed 1: 0.938).
"""

from ml_collections import ConfigDict

from configs import tiny_dapo, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  base = tiny_dapo.get_config(arg)
  shared = ("seed", "model", "mesh", "memory", "warmup", "prompts", "rollout")
  config = ConfigDict({name: base[name] for name in shared})
  config.steps = 40  # of rollout and training
  config.meshes = dict(  # of the other models, on the same devices; all 0: as `mesh`, which is the policy's
    reference=dict(data=0, fsdp=0, tensor=0),
    reward=dict(data=0, fsdp=0, tensor=0),
    value=dict(data=0, fsdp=0, tensor=0),
  )
  config.rollout.groups = 64  # prompts of a step
  config.rollout.group_size = 2  # answers of each; values, not the group, are the baseline, so 1 will do
  config.rewards = tiny_sft.rewards()
  config.reward_model = ""  # PATH_OR_NAME of a reward model that judges in place of the verifier
  config.no_end = dict(
    penalised=False,  # an answer that ran into the cap gets this score in place of its own
    score=-1.0,
  )
  config.kl = dict(
    coefficient=0.02,  # β, what a nat of KL to the reference costs; the starting value where it adapts
    estimator="k1",  # of the KL charged for a token: k1, k2 or k3
    adaptive=False,  # β follows the KL that there is: β (1 + clip(KL / target − 1, ±0.2) n / horizon), n answers a step
    target=6.0,  # nats an answer
    horizon=10_000,  # answers
  )
  config.gae = dict(
    discount=1.0,
    lam_critic=0.95,  # λ of the returns that the value model learns
    lam_policy=0.95,  # λ of the advantages
    length_adaptive=0.0,  # α of VAPO, λ = 1 − 1 / (α length) for the advantages, in place of lam_policy; 0: off
  )
  config.whiten = dict(
    rewards=False,  # token rewards get a standard deviation of 1; their mean is not shifted
    advantages=True,
  )
  config.objective = dict(
    clip_low=0.2,
    clip_high=0.2,
    dual_clip=0.0,
    aggregation="token_mean",
    entropy_coefficient=0.0,
    nll_on_correct=0.0,  # weight of the negative log-likelihood of correct answers (VAPO: 0.1)
    correction=dict(level="token", mode="truncate", low=0.0, high=2.0),
    logprob_chunk=4096,
  )
  config.learner = dict(
    epochs=2,  # over a step's prompts, each shuffled anew
    minibatches=2,  # updates of policy and value model in an epoch
    micro_batches=1,
    max_skipped_updates=5,  # in a row, because of NaN or infinity, that end the run
  )
  config.optimizer = base.optimizer
  config.value = dict(
    path="",  # PATH_OR_NAME to start from; empty: the reward model where there is one, or else the policy as it came
    zero_head=True,  # start with a head of zeros, also in place of a reward model's: every value is 0 at first
    pretraining_steps=2,  # of `steps`, in which the value model alone is trained on the policy's answers
    objective=dict(
      clip=0.2,  # how far a value may move in a step, in units of the reward; 0: no bound
      coefficient=0.1,
    ),
    optimizer=base.optimizer.copy_and_resolve_references(),
  )
  config.ptx = dict(
    coefficient=0.0,  # γ of the text's negative log-likelihood in every update of the policy (PPO-ptx); 0: off
    rows=32,  # of text in an update
    field="",  # of a file of documents the column that has the text, all of which is learned; empty: demonstrations
    demonstrations=tiny_sft.training().demonstrations,
  )
  config.average = dict(
    decay=0.0,  # of the exponential moving average of the policy, taken once a step; 0: none is kept
    evaluate=True,  # evaluate the average too: SET_average/METRIC
  )
  config.eval = tiny_sft.evaluation()
  config.eval.kl = False  # also the KL to what training started from, on sampled answers; keeps those parameters
  config.checkpoint = dict(every=20, keep=2, digest=True)
  config.logging = dict(
    tensorboard=True,
    report=True,
    rollouts_every=10,
    console={
      "accuracy/mean": "accuracy",
      "value/explained_variance": "explained variance",
      "eval/heldout/avg@8": "held-out avg@8",
    },
  )
  return config
