"""Trains a tiny transformer on demonstrations of chain arithmetic (SFT).

    python -m experiments.sft --workdir=runs/sft

"7+8-2*3=" is worked out from left to right, and each step keeps the last digit only. Careful, hasty and rambling people
write the demonstrations (`data.demonstrations`). The model learns to answer as this crowd does, which is often wrong.

Seed 0, 85 s on two cores: held-out avg@8 0.455 [0.41, 0.50] after 900 steps.
"""

from ml_collections import ConfigDict


def task(split: str, per_difficulty: int) -> ConfigDict:
  """Names the prompts of the procedural task, or of a file if `path` is set.

  An evaluation set without a path is the procedural task, too. But where the run's own data are from a file, it is the
  part of the run's prompts that is held out (`eval.own_share`).
  """
  return ConfigDict(
    dict(
      path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT; empty: the procedural task
      # The next four fields have an effect on the procedural task only.
      task="chains",  # chains ("7+8-2*3=") or facts ("What is 7 * 8?"); facts take no per_difficulty and no seed
      split=split,  # train, sft_only (used in SFT, never in RL) or held_out
      per_difficulty=per_difficulty,  # problems of each number of steps
      seed=0,  # decides which problems are drawn; the split of a problem depends on its text only
      template="{prompt}",  # text around a prompt; "{prompt}" stands for the prompt
      chat=False,  # render prompts with the tokeniser's chat template; rows of messages always are
      system="",  # system message of prompts that are rendered as a chat; empty: none
      chat_arguments=dict(),  # variables of the chat template, such as enable_thinking=False
      left_out="error",  # action on words of a chat that its template leaves out: error, or allow (go on without)
      over_limit="error",  # action on a prompt with too many tokens: error or drop (counted in the log)
      limit=0,  # use at most this many rows; 0: all
    )
  )


def evaluation() -> ConfigDict:
  """Asks for evaluations on held-out problems, sampled at temperature 1 and greedily."""
  return ConfigDict(
    dict(
      every=20,  # steps between two evaluations; 0: none; -1: after each epoch, where the method counts epochs
      best="heldout/avg@8",  # SET/METRIC; the checkpoint with its highest value is kept ("-SET/METRIC": the lowest)
      answer_style="answer_line",  # where votes find the answer: answer_line, boxed, tag, last_number or any
      slots=128,  # answers that are sampled at the same time
      max_prompt_length=8,  # limit on prompts, in tokens
      max_new_tokens=24,  # limit on answers, in tokens, the stop token included
      own_share=0.1,  # of data from a file: share that is held out, by a hash, for the sets without a path; 0: none
      own_limit=200,  # at most so many of these held-out prompts are evaluated; 0: all
      sets=dict(  # evaluation sets by name; metrics are called eval/NAME/METRIC
        heldout=dict(
          prompts=task("held_out", 40),  # the problems
          samples=8,  # answers per problem: the 8 of avg@8
          greedy=True,  # also measure the most likely answer
          sampling=dict(
            temperature=1.0,  # 0: always the most likely token
            top_k=0,  # draw from the k most likely tokens only; 0: off
            top_p=1.0,  # draw from the most likely tokens that together have probability p; 1: off
            min_p=0.0,  # draw only tokens at least min_p times as likely as the most likely one; 0: off
            stop_ids=(),  # ids that end an answer, besides those that the model names; such as (13, 198)
            stop_strings=(),  # texts that end an answer; such as ("\n\nQuestion:",)
          ),
        ),
      ),
    )
  )


def rewards() -> ConfigDict:
  """Rewards an answer whose last `Answer:` line is exactly right."""
  return ConfigDict(
    dict(
      accuracy="correct",  # name of the function below whose value is the accuracy, for dynamic sampling and evaluation
      workers=1,  # processes that run the functions and are killed at a time limit; 0: run them in this process
      batch_seconds=60.0,  # a call has as many answers as fit in it with `answer_seconds` each, at least one
      answer_seconds=10.0,  # time limit of one answer
      timed_out="invalid",  # an answer that a function runs out of time on: invalid (no reward), or its lowest reward
      max_failures=1.0,  # the run ends if a function fails on this share of a step's answers; above 1: never
      functions=dict(  # reward functions by name; the reward is their weighted sum
        correct=dict(
          function="posttrain_jax.rewards.verifiers:exact_answer",  # MODULE:FUNCTION or FILE.py:FUNCTION
          weight=1.0,  # factor of its value in the reward
          options=dict(style="answer_line"),  # keyword arguments of the function
          lowest=0.0,  # its lowest reward, which timed_out="lowest" gives
        ),
      ),
    )
  )


def model() -> ConfigDict:
  """Names the model: 230,000 random parameters, or a model that exists if `path` is set."""
  return ConfigDict(
    dict(
      path="",  # PATH_OR_NAME: workdir, Hugging Face directory, GGUF file or known name; empty: random parameters
      # The next fields, up to `rope_theta`, have an effect only if the path is empty.
      vocabulary="symbols",  # symbols (one token per term of the procedural task) or bytes (reads any text)
      vocab_size=0,  # 0: the tokeniser's
      num_layers=2,  # transformer blocks
      embed_dim=96,  # width of the residual stream
      mlp_dim=256,  # hidden width of the MLP
      num_heads=4,  # query heads
      num_kv_heads=4,  # key/value heads; must divide num_heads
      head_dim=24,  # dimensions of a head
      rope_theta=1000.0,  # base of the rotary frequencies
      compute_dtype="float32",  # of activations and of the weights in use: float32 or bfloat16
      # What the backward pass recomputes to need less memory: none, dots, attention, full, or host, which recomputes as
      # much as full does and keeps the layers' inputs in the host's memory (pinned).
      remat="none",
      beyond_context=False,  # let prompts and answers be longer than the context that the model was made for
      unroll=2,  # layers that the scan over layers unrolls together; more compile longer and may run faster
    )
  )


def training() -> ConfigDict:
  """Holds the fields of supervised training, which `configs/tiny_dapo.py` also uses for its warm-up."""
  return ConfigDict(
    dict(
      steps=900,  # optimiser updates; 0 with epochs above 0: as many as the epochs take
      epochs=0,  # passes over the data; 0: only `steps` counts
      batch_size=32,  # rows of an update; a packed row has several examples
      micro_batches=1,  # equal parts of an update, whose gradients are added up; those without an example are left out
      loss_weighting="token",  # what has equal weight in the loss: token, or sequence (every example, however long)
      dropout=dict(first=0.0, last=0.0),  # residual dropout at the first and the last layer, linear in between
      logprob_chunk=4096,  # most tokens whose logits a device holds at once; fewer need less memory
      max_skipped_updates=10,  # the run ends after so many updates in a row with a NaN or infinite gradient
      demonstrations=dict(
        path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of messages, or of prompt and completion
        per_difficulty=2000,  # without a path: training problems of each number of steps
        copies=2,  # without a path: demonstrations of each problem
        seed=0,  # without a path: decides which problems and which demonstrations are drawn
        limit=0,  # use at most this many rows; 0: all
        held_out=0.0,  # share of prompts kept for the validation loss
        template="{prompt}",  # text around a prompt, which {prompt} stands for; rows of whole chats stay as they are
        chat=False,  # render prompt and completion with the chat template; rows of messages always are
        system="",  # system message of chats that do not have one; empty: none
        chat_arguments=dict(),  # variables of the chat template, such as enable_thinking=False
        left_out="error",  # action on words of a chat that its template leaves out: error, or allow (go on without)
        row_length=64,  # tokens of a row; also the limit on an example
        packed=True,  # put several examples into a row; they do not attend to each other
        max_completion=24,  # limit on the learned tokens of an example; 0: no limit
        too_long="cut",  # action on an example over a limit: cut, drop or error
      ),
      optimizer=dict(  # AdamW
        learning_rate=3e-3,  # peak
        schedule="cosine",  # after the warm-up: constant, linear or cosine
        warmup_updates=50,  # updates over which the rate rises linearly from 0
        decay_updates=900,  # update at which linear and cosine reach their end; 0: the last update
        end_fraction=0.05,  # final rate as a share of the peak
        b1=0.9,  # decay of the first moment
        b2=0.98,  # decay of the second moment
        epsilon=1e-8,  # added to the root of the second moment
        weight_decay=0.01,  # on matrices only
        clip_norm=1.0,  # largest norm of the gradient; 0: no clipping
      ),
    )
  )


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = training()
  config.seed = 0  # seed of all random draws of the run
  config.model = model()
  config.mesh = dict(  # devices along each axis; one axis may be -1: all that are left
    data=1,  # copies of the model; each takes a part of the batch
    fsdp=1,  # shards of the parameters and the optimiser state; each takes a part of the batch
    tensor=1,  # shards of heads, MLP and vocabulary
  )
  config.memory = dict(optimizer="device")  # memory of the moments: device or host (pinned); results are the same
  config.rewards = rewards()
  config.eval = evaluation()
  config.eval.every = 180
  config.eval.reward_model = ""  # PATH_OR_NAME of a reward model that also scores the answers (`heldout/reward`)
  config.checkpoint = dict(
    every=100,  # steps between two checkpoints
    keep=2,  # newest checkpoints that stay; the best one stays as well
    digest=True,  # write `params_sha256` to metrics.jsonl at each checkpoint
  )
  config.logging = dict(
    tensorboard=True,  # write TensorBoard events
    report=True,  # write report.html at the end
    console={"loss": "loss", "eval/heldout/avg@8": "held-out avg@8"},  # metrics shown in the terminal, with labels
  )
  return config
