"""Trains a judge of chain arithmetic that reasons before it scores.

python -m experiments.generative_reward --workdir=runs/generative_reward

The judge works the problem out again, then scores the answer 1 or 0. Fields without a comment here are explained in
configs/tiny_sft.py.

Seed 0, 131 CPU seconds with compilation. On answers to held-out problems, 57 % of which have the commoner verdict,
sampled judgements are right in 96.6 % (95.2-97.8). They prefer the right one of two answers in 99.0 % of pairs
(97.6-100). With the probabilities of the score's token after the most likely reasons, it is 98.3 % (96.7-99.6) of
answers and all 537 pairs. 0.3 % of sampled judgements have no score. (500 steps: 92.5 % of answers and 94.9 % of
pairs.)
"""

from ml_collections import ConfigDict

from configs import tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_sft.training()
  config.seed = 0  # seed of all random draws of the run
  config.model = tiny_sft.model()
  config.mesh = dict(  # devices along each axis; one axis may be -1: all that are left
    data=1,  # copies of the model; each takes a part of the batch
    fsdp=1,  # shards of the parameters and the optimiser state; each takes a part of the batch
    tensor=1,  # shards of heads, MLP and vocabulary
  )
  config.demonstrations = dict(
    path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of scored answers or comparisons (`data.judgements`)
    held_out=0.1,  # with a path: share of prompts held out for evaluation; a hash of the prompt decides
    low=0,  # lowest score; scores are whole numbers, one token each; a rejected answer gets the lowest
    high=1,  # highest score; a chosen answer gets it
    # The next five fields have an effect without a path only.
    per_difficulty=2000,  # problems of each number of steps
    copies=2,  # judged answers to each problem
    held_out_per_difficulty=20,  # held-out problems of each number of steps
    held_out_copies=6,  # judged answers to each held-out problem
    seed=0,  # decides which problems and answers are drawn
    template="{prompt}",  # text around a prompt; "{prompt}" stands for the prompt
    chat=False,  # render prompt and judgement with the chat template
    system="",  # system message of prompts that are rendered as a chat; empty: none
    chat_arguments=dict(),  # variables of the chat template, such as enable_thinking=False
    left_out="error",  # action on words of a chat that its template leaves out: error, or allow (go on without)
    row_length=64,  # tokens of a row; also the limit on a judgement with its prompt
    packed=True,  # put several judgements into a row; they do not attend to each other
    max_completion=0,  # limit on the learned tokens of a judgement; 0: no limit
    too_long="drop",  # action on a judgement over a limit: drop (counted) or error
  )
  config.steps = 700
  config.optimizer.decay_updates = 700
  config.eval = dict(
    every=350,  # steps between two evaluations; 0: none; -1: after each epoch
    # The checkpoint with the highest value is kept: expected/ or sampled/, then pair_accuracy or accuracy.
    best="expected/pair_accuracy",
    samples=4,  # sampled judgements of each answer
    sampling=dict(  # the distribution that tokens are drawn from
      temperature=1.0,  # 0: always the most likely token
      top_k=0,  # draw from the k most likely tokens only; 0: off
      top_p=1.0,  # draw from the most likely tokens that together have probability p; 1: off
      min_p=0.0,  # draw only tokens at least min_p times as likely as the most likely one; 0: off
      stop_ids=(),  # ids that end an answer, besides those that the model names; such as (13, 198)
      stop_strings=(),  # texts that end an answer; such as ("\n\nQuestion:",)
    ),
    slots=128,  # judgements that are sampled at the same time
    max_prompt_length=48,  # limit on prompt and answer, in tokens
    over_limit="drop",  # action on an answer that is too long to be judged: drop (it is in no metric) or error
    max_new_tokens=16,  # limit on judgements, in tokens, the stop token included
  )
  config.checkpoint = dict(
    every=350,  # steps between two checkpoints
    keep=2,  # newest checkpoints that stay; the best one stays as well
    digest=True,  # write `params_sha256` to metrics.jsonl at each checkpoint
  )
  config.logging = dict(
    tensorboard=True,  # write TensorBoard events
    report=True,  # write report.html at the end
    console={  # metrics shown in the terminal, with their labels
      "loss": "loss",
      "eval/sampled/pair_accuracy": "sampled",
      "eval/expected/pair_accuracy": "expected",
    },
  )
  return config
