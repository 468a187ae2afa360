"""Trains a tiny transformer with DPO on graded pairs of answers.

python -m experiments.dpo --workdir=runs/dpo
python -m experiments.dpo --config=configs/tiny_dpo.py:dpop --workdir=runs/dpop      # any loss of OPTIONS
python -m experiments.dpo --config=configs/tiny_dpo.py:kto_single --workdir=runs/kto_single

The last one learns from single answers that are labelled good or bad, such as thumbs: rows of `data.labelled_rows` with
`--config.preferences.path=liked.jsonl,disliked.jsonl`. Without a path the procedural grader labels answers. Seed 0,
70 s: avg@8 0.459 [0.42, 0.50] -> 0.745 [0.71, 0.78], good above bad answers 0.890 [0.87, 0.91] of 902 held out.

Seed 0, 81 s on two shared cores, warm-up included. Held-out problems, 8 samples each: avg@8 0.459 [0.42, 0.50] ->
0.786 [0.76, 0.81], greedy 0.446 -> 0.958; held-out pairs in the right order 0.856 [0.82, 0.89]; KL to the reference
1.15 nats.

A warm-up on demonstrations comes first. Fields of `model`, `warmup`, `rewards` and `eval` are explained in
configs/tiny_sft.py, those of `preferences` in configs/tiny_reward_model.py, all others here.

With a higher learning rate and more updates, DPO lowers the likelihood of chosen answers. DPOP (penalty 5) keeps it up.
Both start from the same warm-up (`--config.model.path=runs/dpo/warmup --config.warmup.steps=0 --config.eval.kl=False`)
and have `--config.epochs=4 --config.optimizer.learning_rate=3e-4 --config.eval.every=26`:

                              DPO, update 52    206    DPOP, update 52    206
    chosen, nats, held-out             -2.54  -5.33              +0.39  +0.21
    rejected                          -12.59 -20.44              -0.56  -3.55
    avg@8 (0.459 before)               0.549  0.392              0.607  0.656

The best avg@8 of both is at update 26: DPO 0.781, DPOP 0.692. This draws the curves of two runs next to each other:

python -m experiments.plot --run=DPO=runs/a --run=DPOP=runs/b --metric=eval/preferences/logprob/chosen_moved \
  --metric=eval/heldout/avg@8 --output=curves.png
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model, tiny_sft

# Keyword arguments of each loss. Their values, such as beta, suit this task.
OPTIONS = dict(
  dpo=dict(beta=0.1),
  cdpo=dict(beta=0.1, label_smoothing=0.1),
  robust=dict(beta=0.1, label_smoothing=0.1),
  ipo=dict(tau=0.1),
  hinge=dict(beta=0.1),
  dpop=dict(beta=0.1, penalty=5.0),
  kto=dict(beta=0.1),
  # Weights times numbers of good and bad answers: about even, the good ones a little ahead.
  kto_single=dict(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0),
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
_LOSSES = dict(cdpo="dpo", kto_single="kto")  # of methods whose name is no loss


def get_config(arg: str = "") -> ConfigDict:
  method = arg or "dpo"
  if method not in OPTIONS:
    raise ValueError(f"{arg!r}, expected one of {', '.join(OPTIONS)}")
  config = ConfigDict()
  config.seed = 0  # seed of all random draws of the run
  config.steps = 0  # optimiser updates; 0: as many as the epochs take
  config.epochs = 1  # passes over the pairs; 0: only `steps` counts
  config.batch_size = 64  # pairs of an update
  config.tokens_per_micro_batch = 0  # tokens that a device computes at a time, for its part of a batch; 0: chosen
  config.max_skipped_updates = 5  # the run ends after so many updates in a row with a NaN or infinite gradient
  config.model = tiny_sft.model()
  config.mesh = dict(  # devices along each axis; one axis may be -1: all that are left
    data=1,  # copies of the model; each takes a part of the batch
    fsdp=1,  # shards of the parameters and the optimiser state; each takes a part of the batch
    tensor=1,  # shards of heads, MLP and vocabulary
  )
  config.memory = dict(optimizer="device")  # memory of the moments: device or host (pinned); results are the same
  config.warmup = tiny_reward_model.warmup()  # supervised training before DPO; steps=0: none
  config.warmup.steps = 600
  config.warmup.optimizer.decay_updates = 600
  config.preferences = tiny_reward_model.preferences()
  config.preferences.noise = 0.0
  config.preferences.count_end = True  # False: logprobs leave out the token that ends an answer (Llama 3)
  config.objective = dict(
    loss=_LOSSES.get(method, method),  # a function of losses.preference; cdpo is dpo with smoothed labels
    options=OPTIONS[method],  # keyword arguments of that function
    nll_weight=0.0,  # weight of the chosen answer's negative log-likelihood (Llama 3: 0.2); 0: none
    nll_mean=False,  # divide that negative log-likelihood by the answer's length
    length_averaged=False,  # divide logprobs by the answer's length before the loss
    logprob_chunk=4096,  # most tokens whose logits a device holds at once; fewer need less memory
  )
  config.reference = dict(cache="")  # directory that keeps the reference's logprobs; empty: WORKDIR/reference
  config.rewards = tiny_sft.rewards()
  config.optimizer = dict(  # AdamW; all counts are optimiser updates
    learning_rate=1e-4,  # peak
    schedule="constant",  # after the warm-up: constant, linear or cosine
    warmup_updates=10,  # updates over which the rate rises linearly from 0
    decay_updates=0,  # update at which linear and cosine reach their end; 0: the last update
    end_fraction=0.1,  # final rate of linear and cosine, as a share of the peak
    b1=0.9,  # decay of the first moment
    b2=0.98,  # decay of the second moment
    epsilon=1e-8,  # added to the root of the second moment
    weight_decay=0.0,  # on matrices only
    clip_norm=1.0,  # largest norm of the gradient; 0: no clipping
  )
  config.eval = tiny_sft.evaluation()
  config.eval.every = 40
  config.eval.kl = True  # also measure the KL to the reference on sampled answers; keeps a copy of its parameters
  config.checkpoint = dict(
    every=100,  # steps between two checkpoints
    keep=1,  # newest checkpoints that stay; the best one stays as well
    digest=True,  # write `params_sha256` to metrics.jsonl at each checkpoint
  )
  config.logging = dict(
    tensorboard=True,  # write TensorBoard events
    report=True,  # write report.html at the end
    console={  # metrics shown in the terminal, with their labels
      "loss": "loss",
      "reward/accuracy": "accuracy",
      "logprob/chosen_moved": "chosen moved",
      "eval/heldout/avg@8": "held-out avg@8",
    },
  )
  if method == "kto_single":
    config.preferences.update(form="single", answers=1)
    config.logging.console = {
      "loss": "loss",
      "reward/margin": "margin",
      "logprob/chosen_moved": "good moved",
      "eval/heldout/avg@8": "held-out avg@8",
    }
  return config
