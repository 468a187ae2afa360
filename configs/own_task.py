"""Trains on data of your own: a template with data, reward and model to fill in.

    python -m experiments.sft --config=configs/own_task.py:sft --workdir=runs/own_sft
    python -m experiments.dpo --config=configs/own_task.py:dpo --config.model.path=runs/own_sft --workdir=runs/own_dpo
    python -m experiments.dapo --config=configs/own_task.py:rl --config.model.path=runs/own_sft --workdir=runs/own_rl

Copy this file, fill in the block below, and name your copy with --config. docs/own_task.md does it step by step. The
model is a tiny one that reads bytes, from random parameters. `:sft_smollm2`, `:dpo_smollm2` and `:rl_smollm2` take
SmolLM2-135M-Instruct instead. A hash of the prompt holds a tenth of each file out; the run is evaluated on that.

Fields are explained in configs/tiny_sft.py, configs/tiny_dpo.py and configs/tiny_dapo.py.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo, tiny_dpo, tiny_sft

# ---------------------------------------------------------------------------------------------------------------------
# Fill this in. Files are JSONL, plain or gzipped; relative paths start where the command is run.

DEMONSTRATIONS = "demonstrations.jsonl"  # for sft: {"prompt": ..., "completion": ...} or {"messages": [...]}
COMPARISONS = "comparisons.jsonl"  # for dpo: {"prompt": ..., "chosen": ..., "rejected": ...}
PROBLEMS = "problems.jsonl"  # for rl: {"prompt": ..., "answer": ...}; the reward sees all other columns too
MODEL = ""  # PATH_OR_NAME; empty: a tiny model that reads bytes, from random parameters
PROMPT_TOKENS = 64  # limit on a prompt, the chat template's tokens included
ANSWER_TOKENS = 32  # limit on an answer, its end token included


def reward(texts, rows):
  """Returns 1.0 for each right answer and 0.0 for a wrong one."""  # above 0.5 counts as right
  return [float(text.strip() == str(row["answer"])) for text, row in zip(texts, rows)]


# ---------------------------------------------------------------------------------------------------------------------

SMOLLM2 = "_smollm2"


def get_config(arg: str = "") -> ConfigDict:
  method = arg.removesuffix(SMOLLM2)
  makers = {"sft": _sft, "dpo": _dpo, "rl": _rl}
  if method not in makers:
    raise ValueError(f"{arg!r}, expected one of {', '.join(makers)}, alone or with {SMOLLM2} after it")
  config = makers[method]()
  config.model.path = MODEL
  config.model.vocabulary = "bytes"
  if arg.endswith(SMOLLM2):
    config.model.path = "smollm2-135m-instruct"
    config.model.unroll = 1
    config.optimizer.learning_rate = 5e-6 if method == "dpo" else 1e-5
    config.optimizer.b2 = 0.999
  config.eval.max_prompt_length = PROMPT_TOKENS
  config.eval.max_new_tokens = ANSWER_TOKENS
  config.eval.answer_style = "any"
  # The reward of this file, which is loaded again in a process of its own.
  config.rewards.functions.correct = dict(function=f"{__file__}:reward", weight=1.0, options={})
  return config


def _sft() -> ConfigDict:
  config = tiny_sft.get_config()
  config.steps, config.epochs = 0, 10
  config.batch_size = 8  # rows; a row has several examples
  config.demonstrations.update(
    path=DEMONSTRATIONS,
    chat=True,
    row_length=PROMPT_TOKENS + ANSWER_TOKENS,
    max_completion=ANSWER_TOKENS,
    too_long="error",
  )
  config.optimizer.update(schedule="constant", warmup_updates=10, decay_updates=0)
  config.eval.every = -1  # after each epoch
  config.eval.best = "-validation/loss"
  config.logging.console = {"loss": "loss", "eval/validation/loss": "held-out loss"}
  return config


def _dpo() -> ConfigDict:
  config = tiny_dpo.get_config()
  config.warmup.steps = 0  # start from a model that was trained on demonstrations
  config.epochs = 3
  config.batch_size = 16
  config.preferences.update(
    path=COMPARISONS,
    chat=True,
    max_prompt_length=PROMPT_TOKENS,
    max_answer_length=ANSWER_TOKENS,
    too_long="error",
  )
  config.eval.every = -1  # after each epoch
  config.eval.best = "preferences/reward/accuracy"
  config.eval.kl = False
  config.logging.console = {"loss": "loss", "eval/preferences/reward/accuracy": "held-out accuracy"}
  return config


def _rl() -> ConfigDict:
  config = tiny_dapo.get_config()
  config.warmup.steps = 0  # start from a model that was trained on demonstrations
  config.steps = 40
  config.prompts.update(path=PROBLEMS, chat=True)
  config.rollout.groups = 8
  config.rollout.slots = 64
  config.rollout.max_prompt_length = PROMPT_TOKENS
  config.rollout.max_new_tokens = ANSWER_TOKENS
  config.dynamic_sampling.max_prompts = 64
  config.overlong.penalty_buffer = 0
  config.objective.logprob_chunk = 512
  config.eval.slots = 64
  return config
