"""A reward model of a tiny transformer: graded answers to chain arithmetic, by the crowd of `data.demonstrations`.

python -m experiments.reward_model --workdir=runs/reward_model
python -m experiments.reward_model --config=configs/tiny_reward_model.py:ranking --workdir=runs/rankings

Seed 0, 68 s on two shared cores, warm-up included: held-out accuracy on 347 pairs 0.432 -> 0.821 [0.78, 0.86]; by
strength 0.95 (significantly), 0.71, 0.90, 0.18 (negligibly: of two equally good answers the shorter is better, but the
longer answer wins 78 % of all pairs, and the model has learned that: rank correlation of reward and length 0.69).
Calibration error 0.022.

Without an argument: pairs, drawn towards a mean of 0 (centering 0.01). `ranking`: six answers a prompt, all pairs of
which are one element (InstructGPT). `edited`: edited > chosen > rejected, the upper two strengths only (Llama 3).
`margins`: pairs with large margins by strength (Llama 2).

Held-out accuracy from the same warm-up, seed 0: `ranking` 0.424 -> 0.765 [0.69, 0.83] on the 886 pairs of 112 prompts;
`edited` 0.483 -> 0.925 [0.89, 0.96] on 174 pairs of 58 (an edited answer is easy to tell); `margins` 0.432 -> 0.830
[0.79, 0.87] on the same 347 pairs as without an argument (calibration error 0.123, against 0.022).
"""

from ml_collections import ConfigDict

from configs import tiny_sft


def preferences() -> ConfigDict:
  """Comparisons of answers of the procedural crowd; with `path` set, those of a file instead."""
  return ConfigDict(
    dict(
      path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT; `data.preference_rows` has the forms of rows
      form="pair",  # of the procedural ones: pair, edited (edited > chosen > rejected), ranking (of `answers`)
      per_difficulty=2000,
      answers=2,
      noise=0.05,  # probability that the grader errs
      seed=0,
      limit=0,  # at most this many rows to train on; 0 for all
      held_out=0.1,  # share of prompts held out, by the hash of the prompt
      strengths=(),  # train on these only, such as ("significantly", "better"); () for all
      template="{prompt}",  # what is put around a prompt's text
      chat=False,  # put prompts that are text through the chat template; messages always are
      system="",  # system message of prompts that are rendered as a chat
      max_prompt_length=8,  # limits in tokens
      max_answer_length=24,
      bad_rows="error",  # rows that are malformed or prefer an answer to an equal one: error, or drop (counted)
      too_long="drop",  # comparisons over a limit: error, drop or cut_prompt (from its beginning); counted
    )
  )


def warmup() -> ConfigDict:
  """The supervised model that training starts from where `model.path` is empty."""
  config = tiny_sft.training()
  config.steps = 300
  config.optimizer.decay_updates = 300
  config.eval = dict(every=0, best="heldout/avg@8")
  config.checkpoint = dict(every=300, keep=1, digest=True)
  config.logging = dict(tensorboard=True, console={"loss": "loss"})
  return config


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "ranking", "edited", "margins"):
    raise ValueError(f"{arg!r}, expected nothing, ranking, edited or margins")
  config = ConfigDict()
  config.seed = 0
  config.steps = 0
  config.epochs = 2
  config.batch_size = 64  # prompts with all their comparisons
  config.micro_batches = 1
  config.max_skipped_updates = 5
  config.model = tiny_sft.model()
  config.mesh = dict(data=1, fsdp=1, tensor=1)
  config.warmup = warmup()
  config.preferences = preferences()
  config.margins = "none"  # by strength: none, small (1, 2/3, 1/3, 0) or large (3, 2, 1, 0)
  config.centering = 0.01  # of the squared sum of a pair's rewards; 0 for none
  config.shift_to_demonstrations = True  # at evaluations: demonstrations get a mean reward of 0
  config.demonstrations = tiny_sft.training().demonstrations
  config.demonstrations.per_difficulty = 40
  config.demonstrations.copies = 1
  config.optimizer = dict(
    learning_rate=1e-3,
    schedule="cosine",
    warmup_updates=20,
    decay_updates=0,  # with the epochs
    end_fraction=0.1,
    b1=0.9,
    b2=0.98,
    epsilon=1e-8,
    weight_decay=0.01,
    clip_norm=1.0,
  )
  config.eval = dict(every=60, best="heldout/accuracy")
  config.checkpoint = dict(every=100, keep=1, digest=True)
  config.logging = dict(
    tensorboard=True,
    report=True,
    console={"loss": "loss", "accuracy": "accuracy", "eval/heldout/accuracy": "held-out accuracy"},
  )
  if arg:
    config.centering = 0.0
  if arg == "ranking":
    config.preferences.update(form="ranking", answers=6, per_difficulty=400)
    config.batch_size = 16
  elif arg == "edited":
    config.preferences.update(form="edited", strengths=("significantly", "better"))
    config.epochs = 10  # fewer answers are wanting than there are pairs
    config.optimizer.warmup_updates = 10
  elif arg == "margins":
    config.margins = "large"
  return config
