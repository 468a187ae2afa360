"""A judge of chain arithmetic that reasons first: it works the problem out again, then scores the answer 1 or 0.

python -m experiments.generative_reward --workdir=runs/generative_reward

Seed 0, 131 CPU seconds with compilation. On answers to held-out problems, 57 % of which have the commoner verdict:
sampled judgements are right in 96.6 % (95.2-97.8) and prefer the right one of two answers in 99.0 % of pairs
(97.6-100); the score token's probabilities after the likeliest reasons in 98.3 % (96.7-99.6) and in all 537 pairs.
0.3 % of sampled judgements have no score. (500 steps: 92.5 % and 94.9 % of pairs.)
"""

from ml_collections import ConfigDict

from configs import tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_sft.training()
  config.seed = 0
  config.model = tiny_sft.model()
  config.mesh = dict(data=1, fsdp=1, tensor=1)
  config.demonstrations = dict(
    path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of scored answers or comparisons (`data.judgements`)
    held_out=0.1,  # of a file: share of prompts held out, by the hash of the prompt
    low=0,  # scores are whole numbers from `low` to `high`, one token each; of comparisons the ends
    high=1,
    per_difficulty=2000,  # of the procedural judgements, where there is no path: problems of each number of steps
    copies=2,  # answers of each
    held_out_per_difficulty=20,
    held_out_copies=6,
    seed=0,
    template="{prompt}",
    chat=False,  # put prompt and judgement through the chat template
    system="",
    row_length=64,
    packed=True,
    max_completion=0,  # no limit
    too_long="drop",  # or error; counted
  )
  config.steps = 700
  config.optimizer.decay_updates = 700
  config.eval = dict(
    every=350,
    best="expected/pair_accuracy",  # by which the best checkpoint is kept; also sampled/..., accuracy
    samples=4,  # judgements drawn of each answer
    sampling=dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
    slots=128,
    max_prompt_length=48,
    over_limit="drop",  # answers too long to be judged: drop (they are in no metric) or error
    max_new_tokens=16,
  )
  config.checkpoint = dict(every=350, keep=2, digest=True)
  config.logging = dict(
    tensorboard=True,
    report=True,
    console={
      "loss": "loss",
      "eval/sampled/pair_accuracy": "sampled",
      "eval/expected/pair_accuracy": "expected",
    },
  )
  return config
