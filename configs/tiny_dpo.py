"""DPO on a tiny transformer: warm-up on demonstrations, then graded pairs of answers to other problems.

python -m experiments.dpo --workdir=runs/dpo
python -m experiments.dpo --config=configs/tiny_dpo.py:dpop --workdir=runs/dpop      # any loss of OPTIONS

Seed 0, 81 s on two shared cores, warm-up included. Held-out problems, 8 samples each: avg@8 0.459 [0.42, 0.50] ->
0.786 [0.76, 0.81], greedy 0.446 -> 0.958; held-out pairs in the right order 0.856 [0.82, 0.89]; KL to the reference
1.15 nats.
The README has all losses.

DPO's falling chosen likelihood shows at a higher rate and for longer, where DPOP (penalty 5) holds it up. From the same
warm-up (`--config.model.path=runs/dpo/warmup --config.warmup.steps=0 --config.eval.kl=False`), with
`--config.epochs=4 --config.optimizer.learning_rate=3e-4 --config.eval.every=26`:

                              DPO, update 52    206    DPOP, update 52    206
    chosen, nats, held-out             -2.54  -5.33              +0.39  +0.21
    rejected                          -12.59 -20.44              -0.56  -3.55
    avg@8 (0.459 before)               0.549  0.392              0.607  0.656

Both best at update 26: DPO 0.781, DPOP 0.692. The curves of two runs side by side:

python -m experiments.plot --run=DPO=runs/a --run=DPOP=runs/b --metric=eval/preferences/logprob/chosen_moved \
  --metric=eval/heldout/avg@8 --output=curves.png
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model, tiny_sft

# What each loss needs; β and the like at this task's scale.
OPTIONS = dict(
  dpo=dict(beta=0.1),
  cdpo=dict(beta=0.1, label_smoothing=0.1),
  robust=dict(beta=0.1, label_smoothing=0.1),
  ipo=dict(tau=0.1),
  hinge=dict(beta=0.1),
  dpop=dict(beta=0.1, penalty=5.0),
  kto=dict(beta=0.1),
  orpo=dict(weight=0.1),
  simpo=dict(beta=2.5, gamma=1.375),
  cpo=dict(beta=0.1),
  sppo=dict(beta=0.1),
  exo=dict(beta=0.1, label_smoothing=0.1),
  nca=dict(beta=0.1),
  aot=dict(beta=0.1),
  aot_unpaired=dict(beta=0.1),
  apo_zero=dict(beta=0.1),
  apo_down=dict(beta=0.1),
  discopop=dict(beta=0.1),
)


def get_config(arg: str = "") -> ConfigDict:
  method = arg or "dpo"
  if method not in OPTIONS:
    raise ValueError(f"{arg!r}, expected one of {', '.join(OPTIONS)}")
  config = ConfigDict()
  config.seed = 0
  config.steps = 0
  config.epochs = 1
  config.batch_size = 64  # pairs
  config.micro_batches = 1
  config.max_skipped_updates = 5
  config.model = tiny_sft.model()
  config.mesh = dict(data=1, fsdp=1, tensor=1)
  config.memory = dict(optimizer="device")  # the moments; or host: pinned memory of the host; no bit depends on it
  config.warmup = tiny_reward_model.warmup()
  config.warmup.steps = 600
  config.warmup.optimizer.decay_updates = 600
  config.preferences = tiny_reward_model.preferences()
  config.preferences.noise = 0.0
  config.preferences.count_end = True  # False: the token that ends an answer counts in no logprob (Llama 3)
  config.objective = dict(
    loss="dpo" if method == "cdpo" else method,
    options=OPTIONS[method],
    nll_weight=0.0,  # of the chosen answer's negative log-likelihood (Llama 3: 0.2)
    nll_mean=False,  # divide it by the answer's length
    length_averaged=False,  # divide logprobs by the answer's length before the loss
    logprob_chunk=4096,
  )
  config.reference = dict(cache="")  # directory of cached reference logprobs; empty: reference/ in the workdir
  config.rewards = tiny_sft.rewards()
  config.optimizer = dict(
    learning_rate=1e-4,
    schedule="constant",
    warmup_updates=10,
    decay_updates=0,
    end_fraction=0.1,
    b1=0.9,
    b2=0.98,
    epsilon=1e-8,
    weight_decay=0.0,
    clip_norm=1.0,
  )
  config.eval = tiny_sft.evaluation()
  config.eval.every = 40
  config.eval.kl = True  # KL to the reference, on sampled answers; keeps the reference's parameters
  config.checkpoint = dict(every=100, keep=1, digest=True)
  config.logging = dict(
    tensorboard=True,
    report=True,
    console={
      "loss": "loss",
      "reward/accuracy": "accuracy",
      "logprob/chosen_moved": "chosen moved",
      "eval/heldout/avg@8": "held-out avg@8",
    },
  )
  return config
