"""Trains a tiny reward model on graded answers to chain arithmetic.

python -m experiments.reward_model --workdir=runs/reward_model
python -m experiments.reward_model --config=configs/tiny_reward_model.py:ranking --workdir=runs/rankings

The crowd of `data.demonstrations` writes the answers. Fields of `model`, `warmup` and `demonstrations` are explained in
configs/tiny_sft.py, all others here.

Seed 0, 68 s on two shared cores, warm-up included: held-out accuracy on 347 pairs 0.432 -> 0.821 [0.78, 0.86]; by
strength 0.95 (significantly), 0.71, 0.90, 0.18 (negligibly). Of two equally good answers the shorter is negligibly
better. But the longer answer wins 78 % of all pairs, and the model has learned that: the rank correlation of reward and
length is 0.69. Calibration error 0.022.

The argument after the colon chooses the data. Without an argument: pairs, with a small penalty that pulls their mean
reward to 0 (centering 0.01). `ranking`: six answers per prompt, all pairs of which are one element of a batch
(InstructGPT). `edited`: edited > chosen > rejected, the upper two strengths only (Llama 3). `margins`: pairs with large
margins by strength (Llama 2).

Held-out accuracy from the same warm-up, seed 0: `ranking` 0.424 -> 0.765 [0.69, 0.83] on the 886 pairs of 112 prompts;
`edited` 0.483 -> 0.925 [0.89, 0.96] on 174 pairs of 58 (an edited answer is easy to tell); `margins` 0.432 -> 0.830
[0.79, 0.87] on the same 347 pairs as without an argument (calibration error 0.123, against 0.022).
"""

from ml_collections import ConfigDict

from configs import tiny_sft


def preferences() -> ConfigDict:
  """Names the comparisons of the procedural crowd, or of a file if `path` is set."""
  return ConfigDict(
    dict(
      # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT (see `data.preference_rows`), or several with commas between them;
      # empty: the procedural crowd.
      path="",
      # The next five fields have an effect without a path only. Of a file that is not there yet, estimates and compile
      # proofs expect this form and this number of answers. Rows of single answers need form="single" in any case.
      form="pair",  # pair, edited (edited > chosen > rejected), ranking (of `answers`), or single (for dpo's kto)
      per_difficulty=2000,  # problems of each number of steps
      answers=2,  # answers to each problem; 2 unless the form is ranking or single
      noise=0.05,  # probability that the grader errs
      seed=0,  # decides which problems and answers are drawn
      limit=0,  # train on at most this many rows; 0: all
      held_out=0.1,  # share of prompts held out for evaluation; a hash of the prompt decides
      strengths=(),  # train only on these of significantly, better, slightly and negligibly; (): on all
      template="{prompt}",  # text around a prompt; "{prompt}" stands for the prompt
      chat=False,  # render prompts that are text with the chat template; messages always are
      system="",  # system message of prompts that are rendered as a chat; empty: none
      chat_arguments=dict(),  # variables of the chat template, such as enable_thinking=False
      left_out="error",  # action on words of a chat that its template leaves out: error, or allow (go on without)
      max_prompt_length=8,  # limit on prompts, in tokens
      max_answer_length=24,  # limit on answers, in tokens, the end token included
      bad_rows="error",  # action on a row that is malformed or prefers an answer to an equal one: error or drop
      too_long="drop",  # action on a comparison over a limit: error, drop or cut_prompt (cuts its beginning)
    )
  )


def warmup() -> ConfigDict:
  """Holds the supervised training before the method; with steps=0 there is none."""
  config = tiny_sft.training()
  config.steps = 300
  config.optimizer.decay_updates = 300
  config.given_model = False  # True: warm a model with a path up, too
  config.eval = dict(every=0, best="heldout/avg@8")  # 0: no evaluation
  config.checkpoint = dict(every=300, keep=1, digest=True)
  config.logging = dict(tensorboard=True, console={"loss": "loss"})
  return config


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "ranking", "edited", "margins"):
    raise ValueError(f"{arg!r}, expected nothing, ranking, edited or margins")
  config = ConfigDict()
  config.seed = 0  # seed of all random draws of the run
  config.steps = 0  # optimiser updates; 0: as many as the epochs take
  config.epochs = 2  # passes over the data; 0: only `steps` counts
  config.batch_size = 64  # prompts of an update, each with all its comparisons
  config.tokens_per_micro_batch = 0  # tokens that a device computes at a time, for its part of a batch; 0: chosen
  config.max_skipped_updates = 5  # the run ends after so many updates in a row with a NaN or infinite gradient
  config.model = tiny_sft.model()
  config.mesh = dict(  # devices along each axis; one axis may be -1: all that are left
    data=1,  # copies of the model; each takes a part of the batch
    fsdp=1,  # shards of the parameters and the optimiser state; each takes a part of the batch
    tensor=1,  # shards of heads, MLP and vocabulary
  )
  config.warmup = warmup()
  config.preferences = preferences()
  config.margins = "none"  # margin in the loss, by strength: none, small (1, 2/3, 1/3, 0) or large (3, 2, 1, 0)
  config.centering = 0.01  # weight of the penalty on the squared sum of a pair's rewards; 0: no penalty
  config.shift_to_demonstrations = True  # at each evaluation, shift all rewards so that demonstrations average 0
  config.demonstrations = tiny_sft.training().demonstrations  # the demonstrations for that shift
  config.demonstrations.per_difficulty = 40
  config.demonstrations.copies = 1
  config.optimizer = dict(  # AdamW; all counts are optimiser updates
    learning_rate=1e-3,  # peak
    schedule="cosine",  # after the warm-up: constant, linear or cosine
    warmup_updates=20,  # updates over which the rate rises linearly from 0
    decay_updates=0,  # update at which linear and cosine reach their end; 0: the last update
    end_fraction=0.1,  # final rate of linear and cosine, as a share of the peak
    b1=0.9,  # decay of the first moment
    b2=0.98,  # decay of the second moment
    epsilon=1e-8,  # added to the root of the second moment
    weight_decay=0.01,  # on matrices only
    clip_norm=1.0,  # largest norm of the gradient; 0: no clipping
  )
  config.eval = dict(
    every=60,  # steps between two evaluations; 0: none; -1: after each epoch
    best="heldout/accuracy",  # the checkpoint with the highest value of this metric is kept
  )
  config.checkpoint = dict(
    every=100,  # steps between two checkpoints
    keep=1,  # newest checkpoints that stay; the best one stays as well
    digest=True,  # write `params_sha256` to metrics.jsonl at each checkpoint
  )
  config.logging = dict(
    tensorboard=True,  # write TensorBoard events
    report=True,  # write report.html at the end
    # Metrics shown in the terminal, with their labels.
    console={"loss": "loss", "accuracy": "accuracy", "eval/heldout/accuracy": "held-out accuracy"},
  )
  if arg:
    config.centering = 0.0
  if arg == "ranking":
    config.preferences.update(form="ranking", answers=6, per_difficulty=400)
    config.batch_size = 16
  elif arg == "edited":
    config.preferences.update(form="edited", strengths=("significantly", "better"))
    config.epochs = 10  # there are fewer pairs than without an argument
    config.optimizer.warmup_updates = 10
  elif arg == "margins":
    config.margins = "large"
  return config
