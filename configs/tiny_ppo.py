"""Trains a tiny transformer with PPO on the verifier's rewards.

python -m experiments.ppo --workdir=runs/ppo

A warm-up on demonstrations comes first. The KL to the policy after the warm-up is subtracted from the reward, token by
token. The value model starts from that policy with a head of zeros. The first two steps train the value model alone.
Fields without a comment here are explained in configs/tiny_dapo.py.

Held-out avg@8 after 0, 20 and 40 steps: seed 0 0.455 [0.41, 0.50], 0.940, 0.949 [0.93, 0.96]; seed 1 0.479, 0.931,
0.939 [0.92, 0.96]; seed 2 0.483, 0.919, 0.926 [0.90, 0.95]; greedy 0.43 -> 0.99, 0.43 -> 0.97, 0.45 -> 0.95; KL to the
warm-up 1.4 to 1.6 nats an answer. Seed 0 took 165 s with the warm-up on two shared cores. Seeds 1 and 2 started
from an earlier warm-up of the same config (--config.model.path=WARM_UP --config.warmup.steps=0); the faster one took
109 s. At this learning rate the values explain little of the returns' variance. With
--config.value.optimizer.learning_rate=2e-3 they explain about 0.3 after 5 steps, and the accuracy is the same (seed 1:
0.938).
"""

from ml_collections import ConfigDict

from configs import tiny_dapo, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  base = tiny_dapo.get_config(arg)
  shared = ("seed", "model", "mesh", "memory", "warmup", "prompts", "rollout")
  config = ConfigDict({name: base[name] for name in shared})
  config.steps = 40  # a step is one rollout and the updates on it
  config.meshes = dict(  # meshes of the other models, on the same devices; all 0: the policy's, which is `mesh`
    reference=dict(data=0, fsdp=0, tensor=0),
    reward=dict(data=0, fsdp=0, tensor=0),
    value=dict(data=0, fsdp=0, tensor=0),
  )
  config.rollout.groups = 64  # prompts of a step
  config.rollout.group_size = 2  # answers per prompt; 1 is enough, because values and not the group are the baseline
  config.rewards = tiny_sft.rewards()
  config.reward_model = ""  # PATH_OR_NAME of a reward model that gives the rewards; empty: the verifier
  config.no_end = dict(  # answers that reach the limit on tokens without an end
    penalised=False,  # give them the score below instead of their own
    score=-1.0,  # in units of the reward
  )
  config.kl = dict(
    coefficient=0.02,  # β, the price of one nat of KL to the reference; if adaptive, its first value
    estimator="k1",  # estimator of a token's KL: k1, k2 or k3
    adaptive=False,  # after each step of n answers: β ← β (1 + clip(KL / target − 1, ±0.2) n / horizon)
    target=6.0,  # with adaptive: KL at which β stays, in nats per answer
    horizon=10_000,  # with adaptive: in answers; larger: β adapts more slowly
  )
  config.gae = dict(
    discount=1.0,  # γ
    lam_critic=0.95,  # λ of the returns that the value model learns
    lam_policy=0.95,  # λ of the advantages
    length_adaptive=0.0,  # α of VAPO: λ = 1 − 1 / (α · length) replaces lam_policy; 0: off
  )
  config.whiten = dict(  # over all tokens of a step
    rewards=False,  # scale token rewards to a standard deviation of 1; the mean stays
    advantages=True,  # shift and scale advantages to mean 0 and standard deviation 1
  )
  config.objective = dict(
    surrogate="clipped_surrogate",  # a function of losses.policy; clipped_surrogate is PPO's own
    surrogate_options=dict(),  # further keyword arguments of that function, besides the next three fields
    clip_low=0.2,  # lower clip: ratios below 1 - clip_low are clipped
    clip_high=0.2,  # upper clip: ratios above 1 + clip_high are clipped
    dual_clip=0.0,  # bound on the ratio for negative advantages, above 1; 0: off
    aggregation="token_mean",  # token_mean, prompt_mean, sequence_mean, sequence_sum or fixed_length
    kl_coefficient=0.0,  # weight of the KL to the reference in the loss, besides that in the reward; 0: none
    kl_estimator="k3",  # k2, k3 or k3+
    entropy_coefficient=0.0,  # weight of the entropy bonus; 0: none
    nll_on_correct=0.0,  # weight of the negative log-likelihood of correct answers (VAPO: 0.1); 0: none
    correction=dict(level="token", mode="truncate", low=0.0, high=2.0),  # see configs/tiny_dapo.py
    logprob_chunk=4096,  # most tokens whose logits a device holds at once; fewer need less memory
  )
  config.learner = dict(
    epochs=2,  # passes over a step's prompts, each in a new order
    minibatches=2,  # mini-batches of an epoch; each is one update of the policy and one of the value model
    tokens_per_micro_batch=0,  # tokens that a device computes at a time, for its part of a batch; 0: chosen
    max_skipped_updates=5,  # the run ends after so many updates in a row with a NaN or infinite gradient
  )
  config.optimizer = base.optimizer  # of the policy
  config.value = dict(  # the value model
    path="",  # PATH_OR_NAME of its first parameters; empty: `reward_model` if set, otherwise the policy before step 1
    zero_head=True,  # start with a head of zeros, so that every value is 0; replaces a reward model's head, too
    pretraining_steps=2,  # first steps of `steps`, which train the value model but not the policy
    objective=dict(
      clip=0.2,  # largest change of a value within a step, in units of the reward; 0: no limit
      coefficient=0.1,  # weight of the loss; it has an effect on gradient clipping only
    ),
    optimizer=base.optimizer.copy_and_resolve_references(),  # of the value model, same fields as `optimizer`
  )
  config.ptx = dict(  # PPO-ptx: text that the policy also learns in every update
    coefficient=0.0,  # γ, weight of the text's negative log-likelihood; 0: off
    rows=32,  # rows of text in an update
    field="",  # column with the documents of a file, all of whose tokens are learned; empty: learn demonstrations
    demonstrations=tiny_sft.training().demonstrations,  # the file or the demonstrations; see configs/tiny_sft.py
  )
  config.average = dict(  # exponential moving average of the policy's parameters
    decay=0.0,  # per step, in [0, 1); 0: no average
    evaluate=True,  # also evaluate the average, as eval/SET_average/METRIC
  )
  config.eval = tiny_sft.evaluation()
  config.eval.kl = False  # also measure the KL to the policy before step 1; keeps a copy of those parameters
  config.checkpoint = dict(
    every=20,  # steps between two checkpoints
    keep=2,  # newest checkpoints that stay; the best one stays as well
    digest=True,  # write `params_sha256` to metrics.jsonl at each checkpoint
  )
  config.logging = dict(
    tensorboard=True,  # write TensorBoard events
    report=True,  # write report.html at the end
    rollouts_every=10,  # steps between two files in rollouts/ with prompts and answers as text
    console={  # metrics shown in the terminal, with their labels
      "accuracy/mean": "accuracy",
      "value/explained_variance": "explained variance",
      "eval/heldout/avg@8": "held-out avg@8",
    },
  )
  return config
