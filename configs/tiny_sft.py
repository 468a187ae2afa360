"""Supervised fine-tuning of a tiny transformer on chain arithmetic, as a crowd of uneven diligence writes it.

    python -m experiments.sft --workdir=runs/sft

"7+8-2*3=" is worked out from left to right keeping the last digit. Demonstrations are by careful, hasty and rambling
people (`data.demonstrations`); the model learns to answer as the crowd does, which is often wrong.

Seed 0, 85 s on two cores: held-out avg@8 0.455 [0.41, 0.50] after 900 steps.
"""

from ml_collections import ConfigDict


def task(split: str, per_difficulty: int) -> ConfigDict:
  """Problems of the procedural task; with `path` set, those of a JSONL file or a TFDS data set instead."""
  return ConfigDict(
    dict(
      path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT
      task="chains",  # the procedural task where there is no path: chains, or facts ("What is 7 * 8?")
      split=split,  # of the procedural task: train, sft_only or held_out
      per_difficulty=per_difficulty,  # problems of each number of steps
      seed=0,  # which problems; the split of a problem depends on its text alone
      template="{prompt}",  # what is put around a prompt's text
      chat=False,  # render prompts through the tokeniser's chat template
      system="",  # system message of prompts that are rendered as a chat
      over_limit="error",  # prompts with too many tokens: error or drop (counted in the log)
      limit=0,  # at most this many prompts; 0 for all
    )
  )


def evaluation() -> ConfigDict:
  """Held-out problems, sampled at temperature 1 and greedily."""
  return ConfigDict(
    dict(
      every=20,
      best="heldout/avg@8",  # by which the best checkpoint is kept; a minus before it: the lowest
      answer_style="answer_line",  # how majority votes find an answer: answer_line, boxed, tag, last_number or any
      slots=128,
      max_prompt_length=8,
      max_new_tokens=24,
      sets=dict(
        heldout=dict(
          prompts=task("held_out", 40),
          samples=8,
          greedy=True,
          sampling=dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
        ),
      ),
    )
  )


def rewards() -> ConfigDict:
  """Correctness of the last `Answer:` line, by exact comparison."""
  return ConfigDict(
    dict(
      accuracy="correct",  # which function's value is the accuracy that dynamic sampling and evaluation look at
      workers=1,  # killable processes that run the functions; 0: in this process
      batch_seconds=60.0,
      answer_seconds=10.0,
      functions=dict(
        correct=dict(
          function="posttrain_jax.rewards.verifiers:exact_answer", weight=1.0, options=dict(style="answer_line")
        ),
      ),
    )
  )


def model() -> ConfigDict:
  """230,000 parameters, from scratch."""
  return ConfigDict(
    dict(
      path="",  # workdir, Hugging Face directory, GGUF file or known name; the sizes below are for an empty path
      vocab_size=0,  # 0: the tokeniser's
      num_layers=2,
      embed_dim=96,
      mlp_dim=256,
      num_heads=4,
      num_kv_heads=4,
      head_dim=24,
      rope_theta=1000.0,
      compute_dtype="float32",
      remat="none",
      unroll=2,
    )
  )


def training() -> ConfigDict:
  """What `configs/tiny_dapo.py` takes over as its warm-up."""
  return ConfigDict(
    dict(
      steps=900,
      epochs=0,  # above 0: `steps` of 0 is as many as they take, and `decay_updates` of 0 ends with them
      batch_size=32,  # rows, each with several examples
      micro_batches=1,
      loss_weighting="token",  # or sequence: every example weighs the same, however long
      dropout=dict(first=0.0, last=0.0),  # residual dropout at the first and the last layer, linear between
      logprob_chunk=4096,
      max_skipped_updates=10,
      demonstrations=dict(
        path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of messages, or of prompt and completion
        per_difficulty=2000,  # of the procedural crowd, where there is no path
        copies=2,
        seed=0,
        limit=0,  # at most this many rows; 0 for all
        held_out=0.0,  # share of prompts kept for the validation loss
        template="{prompt}",  # what is put around a prompt's text
        chat=False,  # put prompt and completion through the chat template; rows of messages always are
        system="",  # system message of chats that have none
        row_length=64,
        packed=True,
        max_completion=24,  # learned tokens of an example; 0: no limit
        too_long="cut",  # or drop, or error
      ),
      optimizer=dict(
        learning_rate=3e-3,
        schedule="cosine",
        warmup_updates=50,
        decay_updates=900,
        end_fraction=0.05,
        b2=0.98,
        weight_decay=0.01,
        clip_norm=1.0,
      ),
    )
  )


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = training()
  config.seed = 0
  config.model = model()
  config.mesh = dict(data=1, fsdp=1, tensor=1)
  config.memory = dict(optimizer="device")  # the moments; or host: pinned memory of the host; no bit depends on it
  config.rewards = rewards()
  config.eval = evaluation()
  config.eval.every = 180
  config.eval.reward_model = ""  # PATH_OR_NAME of a reward model that also scores the answers: `heldout/reward`
  config.checkpoint = dict(every=100, keep=2, digest=True)
  config.logging = dict(tensorboard=True, report=True, console={"loss": "loss", "eval/heldout/avg@8": "held-out avg@8"})
  return config
