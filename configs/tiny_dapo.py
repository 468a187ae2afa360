"""DAPO on a tiny transformer: warm-up on demonstrations, reinforcement learning, held-out evaluation before and after.

python -m experiments.dapo --workdir=runs/dapo
bash launch/quickstart.sh                          # the same with a virtual environment around it
"""

from ml_collections import ConfigDict

from configs import tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.seed = 0
  config.steps = 60  # of rollout and training
  config.model = tiny_sft.model()
  config.mesh = dict(data=1, fsdp=1, tensor=1)  # devices along each axis; one may be -1: what is left
  config.memory = dict(  # device, or host: pinned memory of the host, where the platform has it; no bit depends on it
    optimizer="device",  # the moments, twice the parameters
    reference="device",  # the frozen reference, where there is one
  )
  config.warmup = tiny_sft.training()  # supervised steps before, of whatever model; `warmup.steps=0` for none
  config.warmup.eval = dict(every=180, best="heldout/avg@8")
  config.warmup.checkpoint = dict(every=300, keep=1, digest=True)
  config.warmup.logging = dict(tensorboard=True, console={"loss": "loss", "eval/heldout/avg@8": "held-out avg@8"})

  config.prompts = tiny_sft.task("train", 1000)
  config.rewards = tiny_sft.rewards()
  config.rewards.functions.correct.weight = 2.0  # DAPO's +1 and -1, up to a shift that group advantages do not see
  config.reward_model = ""  # PATH_OR_NAME of a reward model whose scores are the rewards; verdicts stay the accuracy
  config.rollout = dict(
    groups=16,  # N, prompts that a step trains on
    group_size=8,  # G, answers per prompt
    slots=128,  # answers drawn at the same time
    max_prompt_length=8,  # a limit on prompts, in tokens; caches are as long as the longest one there is
    max_new_tokens=24,
    steps_per_dispatch=8,  # tokens per slot between two looks at what has finished
    prefill_width=16,
    sampling=dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
    train_on_truncated=False,  # must be True to train on samples of top_k, top_p or min_p
  )
  config.replay = ""  # --replay=DIR: the workdir of a run whose stored groups are trained on, without sampling
  config.dynamic_sampling = dict(
    enabled=True,
    admission="drain",  # exact, carry, filter or batch; see rollouts/dynamic_sampling.py
    max_prompts=256,  # cap on the prompts drawn for one step
    at_cap="train_partial",  # or error, or stop
    max_staleness=1,  # carry: most steps from a prompt's admission to training on its group; 0 is on-policy
    verdict_delay=1,  # carry: dispatches from a group's end to the effect of its verdict: time for slow verifiers
    batch_factor=3,  # batch: prompts of a batch, in multiples of `rollout.groups`
    retire_after=0,  # all-right groups in a row after which a prompt is drawn no more; 0 for never
  )
  config.overlong = dict(
    penalty_buffer=8,  # tokens before the cap over which the soft penalty falls to -1; 0 turns it off
    filter="off",  # off, loss (truncated answers leave the loss) or group (they leave their group too)
  )
  config.advantage = "group_normalized"  # a function of losses.advantages: group_centered, leave_one_out, ...
  config.advantage_options = dict()  # its keyword arguments, such as ddof
  config.objective = dict(
    surrogate="clipped_surrogate",  # a function of losses.policy: sequence_clipped_surrogate (GSPO), ...
    surrogate_options=dict(),  # its keyword arguments besides the next three
    clip_low=0.2,
    clip_high=0.28,
    dual_clip=0.0,  # above 1: the largest ratio that a negative advantage still pushes down
    aggregation="token_mean",  # prompt_mean, sequence_mean, sequence_sum, fixed_length
    kl_coefficient=0.0,  # of the KL to the reference, in the loss
    kl_estimator="k3",  # k2, k3, k3+
    entropy_coefficient=0.0,  # of the entropy bonus
    correction=dict(level="token", mode="truncate", low=0.0, high=2.0),
    logprob_chunk=4096,
  )
  config.reference = dict(
    refresh_every=0,  # steps after which the policy becomes the reference; 0: it stays what training started from
    kl_in_reward=0.0,  # of an answer's summed log ratio to the reference (k1), taken from its reward
  )
  config.teacher = dict(path="")  # PATH_OR_NAME of the model whose logprobs advantage="distillation" takes
  config.learner = dict(
    updates_per_step=2,  # optimiser updates on a step's groups; from the second on they are off-policy and clipped
    micro_batches=1,
    rows_per_prompt=1,  # rows over which a prompt's answers are cut, each with the prompt again: for long answers
    max_skipped_updates=5,  # in a row, because of NaN or infinity, that end the run
  )
  config.optimizer = dict(
    learning_rate=3e-4,
    schedule="constant",
    warmup_updates=5,
    decay_updates=0,
    end_fraction=0.1,
    b1=0.9,
    b2=0.98,
    epsilon=1e-8,
    weight_decay=0.01,
    clip_norm=1.0,
  )
  config.eval = tiny_sft.evaluation()
  config.eval.kl = False  # also the KL to what training started from, on sampled answers; keeps those parameters
  config.checkpoint = dict(every=20, keep=2, digest=True)
  config.logging = dict(
    tensorboard=True,
    report=True,
    rollouts_every=10,
    groups_every=0,  # steps between those whose groups are stored whole, for --replay; 0: none are
    console={
      "accuracy/mean": "accuracy",
      "sampling/informative_share": "informative",
      "eval/heldout/avg@8": "held-out avg@8",
    },
  )
  return config
