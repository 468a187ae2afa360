"""Trains a tiny transformer with DAPO after a warm-up on demonstrations.

python -m experiments.dapo --workdir=runs/dapo
bash launch/quickstart.sh                          # the same in a virtual environment that the script makes

Held-out problems are evaluated before and after. Fields of `model`, `prompts`, `rewards`, `warmup` and `eval` are
explained in configs/tiny_sft.py, all others here.
"""

from ml_collections import ConfigDict, config_dict

from configs import tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.seed = 0  # seed of all random draws of the run
  config.steps = 60  # a step is one rollout and the updates on it
  config.model = tiny_sft.model()
  config.mesh = dict(  # devices along each axis; one axis may be -1: all that are left
    data=1,  # copies of the model; each takes a part of the batch
    fsdp=1,  # shards of the parameters and the optimiser state; each takes a part of the batch
    tensor=1,  # shards of heads, MLP and vocabulary
  )
  config.memory = dict(  # device, or host (pinned memory, if the platform has it); results are the same
    optimizer="device",  # the moments of the optimiser, twice the size of the parameters
    reference="device",  # the frozen reference, if the run has one
  )
  config.warmup = tiny_sft.training()  # supervised training before RL, of a model without a path; steps=0: none
  config.warmup.given_model = False  # True: warm a model with a path up, too
  # The next three have the same fields as the sections of the same names below, for the warm-up.
  config.warmup.eval = dict(every=180, best="heldout/avg@8")
  config.warmup.checkpoint = dict(every=300, keep=1, digest=True)
  config.warmup.logging = dict(tensorboard=True, console={"loss": "loss", "eval/heldout/avg@8": "held-out avg@8"})

  config.prompts = tiny_sft.task("train", 1000)
  config.rewards = tiny_sft.rewards()
  config.rewards.functions.correct.weight = 2.0  # DAPO's +1 and -1, up to a shift that group advantages do not see
  config.reward_model = ""  # PATH_OR_NAME of a reward model that gives the rewards; verifiers still give the accuracy
  config.scoring = dict(  # what the reward model judges
    unchecked_only=False,  # only answers that rewards.accuracy abstains on; its score is added to other rewards
    summary_after="",  # what stands after this text, as "</think>", where a row has "judged": "summary"; "": all
  )
  config.rollout = dict(
    groups=16,  # N, prompts that a step trains on; a group is one prompt with its answers
    group_size=8,  # G, answers per prompt
    slots=128,  # answers that are sampled at the same time
    max_prompt_length=8,  # limit on prompts, in tokens; caches are only as long as the longest prompt
    max_new_tokens=24,  # limit on answers, in tokens, the stop token included
    steps_per_dispatch=8,  # tokens that each slot decodes before the host checks which answers have ended
    prefill_chunk=32,  # prompts are prefilled in chunks of so many tokens, a multiple of 32; the last one is padded
    prefill_width=8,  # chunks in one prefill, of one prompt or of several
    prefills_per_dispatch=4,  # running answers wait for at most so many prefills, then they draw again
    cache_tokens=config_dict.placeholder(int),  # tokens that the caches hold; None: from the device's free memory
    sampling=dict(  # the distribution that tokens are drawn from
      temperature=1.0,  # must be above 0 to train
      top_k=0,  # draw from the k most likely tokens only; 0: off
      top_p=1.0,  # draw from the most likely tokens that together have probability p; 1: off
      min_p=0.0,  # draw only tokens at least min_p times as likely as the most likely one; 0: off
      stop_ids=(),  # ids that end an answer, besides those that the model names; such as (13, 198)
      stop_strings=(),  # texts that end an answer; such as ("\n\nQuestion:",)
    ),
    train_on_truncated=False,  # must be True to train on samples drawn with top_k, top_p or min_p
  )
  config.replay = ""  # workdir of another run: trains on its stored groups instead of sampling (same as --replay=DIR)
  config.dynamic_sampling = dict(
    enabled=True,  # replace groups whose answers are all right or all wrong; they have no gradient
    admission="drain",  # how prompts enter: drain, exact, carry, filter or batch; see rollouts/dynamic_sampling.py
    max_prompts=256,  # cap on the prompts drawn for one step
    at_cap="train_partial",  # action at that cap: train_partial (train on fewer groups), error, or stop (end the run)
    max_staleness=1,  # with carry: most steps from the admission of a prompt to training on its group; 0: on-policy
    verdict_delay=1,  # with carry: dispatches until a verdict takes effect, which gives slow verifiers time
    batch_factor=3,  # with batch: prompts of a batch, in multiples of `rollout.groups`
    retire_after=0,  # a prompt is no longer drawn after so many all-right groups in a row; 0: never retire
    informative="mixed",  # a group is informative if it has right and wrong answers; spread: if its accuracies differ
    right_above=0.5,  # an answer is right if its accuracy is above this
  )
  config.overlong = dict(
    penalty_buffer=8,  # tokens before the cap over which the soft penalty falls from 0 to -1; 0: no penalty
    filter="off",  # truncated answers: off (kept), loss (not in the loss), group (not in their group either)
  )
  config.advantage = "group_normalized"  # a function of losses.advantages, also group_centered, leave_one_out, ...
  config.advantage_options = dict()  # keyword arguments of that function, such as ddof
  config.objective = dict(
    surrogate="clipped_surrogate",  # a function of losses.policy, also sequence_clipped_surrogate (GSPO), ...
    surrogate_options=dict(),  # further keyword arguments of that function, besides the next three fields
    clip_low=0.2,  # lower clip: ratios below 1 - clip_low are clipped
    clip_high=0.28,  # upper clip: ratios above 1 + clip_high are clipped; above clip_low is DAPO's clip-higher
    dual_clip=0.0,  # bound on the ratio for negative advantages, above 1; 0: off
    aggregation="token_mean",  # token_mean, prompt_mean, sequence_mean, sequence_sum or fixed_length
    kl_coefficient=0.0,  # weight of the KL to the reference in the loss; 0: none
    kl_estimator="k3",  # k2, k3 or k3+
    entropy_coefficient=0.0,  # weight of the entropy bonus; 0: none
    nll_on_correct=0.0,  # weight of the negative log-likelihood of correct answers (VAPO: 0.1); 0: none
    correction=dict(  # weights old / sampler, for stale tokens and for numerical differences of the engine
      level="token",  # ratios per token, sequence or geometric (mean of a sequence); off: no correction
      mode="truncate",  # truncate: cut weights at `high`; mask: weight 0 outside [low, high]
      low=0.0,  # lower bound of the weights
      high=2.0,  # upper bound of the weights
    ),
    logprob_chunk=4096,  # most tokens whose logits a device holds at once; fewer need less memory
  )
  config.reference = dict(
    refresh_every=0,  # the policy becomes the new reference after so many steps; 0: never, RL's first policy stays
    kl_in_reward=0.0,  # weight of an answer's KL to the reference (k1, summed), subtracted from its reward; 0: none
  )
  config.teacher = dict(path="")  # PATH_OR_NAME of the teacher; advantage="distillation" needs its logprobs
  config.learner = dict(
    updates_per_step=2,  # updates on a step's groups, divides `groups`; all but the first are off-policy and clipped
    tokens_per_micro_batch=0,  # tokens that a device computes at a time, for its part of a batch; 0: chosen
    max_skipped_updates=5,  # the run ends after so many updates in a row with a NaN or infinite gradient
  )
  config.optimizer = dict(  # AdamW; all counts are optimiser updates
    learning_rate=3e-4,  # peak
    schedule="constant",  # after the warm-up: constant, linear or cosine
    warmup_updates=5,  # updates over which the rate rises linearly from 0
    decay_updates=0,  # update at which linear and cosine reach their end; steps x updates_per_step is the last one
    end_fraction=0.1,  # final rate of linear and cosine, as a share of the peak
    b1=0.9,  # decay of the first moment
    b2=0.98,  # decay of the second moment
    epsilon=1e-8,  # added to the root of the second moment
    weight_decay=0.01,  # on matrices only
    clip_norm=1.0,  # largest norm of the gradient; 0: no clipping
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
    groups_every=0,  # steps between two files with complete groups, which --replay can train on; 0: none
    console={  # metrics shown in the terminal, with their labels
      "accuracy/mean": "accuracy",
      "sampling/informative_share": "informative",
      "eval/heldout/avg@8": "held-out avg@8",
    },
  )
  return config
