r"""Trains with GRPO on the scores of a generative reward model.

    python -m experiments.generative_reward --workdir=runs/judge
    python -m experiments.grpo --config=configs/tiny_generative_grpo.py --workdir=runs/judged \
      --config.judge.path=runs/judge

The judge writes its reasons before its score: it works the problem out again. Verifiers still give the accuracy. With
`--config.judge.self_rewarding` and an empty path the policy judges its own answers. Fields without a comment here are
explained in configs/tiny_dapo.py.

Seed 0: held-out avg@8 is 0.453 after the warm-up, 0.904 (0.888-0.920) after 20 steps and 0.908 (0.885-0.931) after 40.
After 60 it is 0.792 (0.751-0.835), while the judge's mean score stays at 0.949: the policy then exploits the judge.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo
from posttrain_jax.data.judgements import ARITHMETIC


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_dapo.get_config()
  config.dynamic_sampling.enabled = False  # it chooses groups by verdicts, which the judge is to replace
  config.overlong.penalty_buffer = 0
  config.judge = judge()
  config.judge.path = "runs/judge"
  return config


def judge() -> ConfigDict:
  """Returns the section of a judge of chain arithmetic, without a path."""
  return ConfigDict(
    dict(
      path="",  # PATH_OR_NAME of a generative reward model; the policy's start, as a fixed judge, has a path too
      self_rewarding=False,  # True, with an empty path: the policy judges its answers with its current parameters
      wording=dict(  # as in the judge's training
        template=ARITHMETIC.template,  # "{prompt}", "{answer}", "{low}" and "{high}" stand for what is judged
        mark=ARITHMETIC.mark,  # text between reasons and score
      ),
      low=0,  # lowest score; scores are whole numbers, one token each
      high=1,  # highest score
      reading="expected",  # expected: mean under the probabilities of the score's token; sampled: the written score
      votes=1,  # judgements of each answer; the mean of those that have a score is the reward
      template="{prompt}",  # text around the question, as in the judge's training
      chat=False,  # render the question with the judge's chat template
      system="",  # system message of a question that is rendered as a chat; empty: none
      slots=128,  # judgements that are drawn at the same time
      max_prompt_length=48,  # limit on a question with its answer, in the judge's tokens; a longer one has no score
      max_new_tokens=16,  # limit on a judgement, in tokens, the stop token included
      sampling=dict(  # the distribution that tokens are drawn from
        temperature=0.0,  # 0: always the most likely token; several votes need a temperature
        top_k=0,  # draw from the k most likely tokens only; 0: off
        top_p=1.0,  # draw from the most likely tokens that together have probability p; 1: off
        min_p=0.0,  # draw only tokens at least min_p times as likely as the most likely one; 0: off
        stop_ids=(),  # ids that end a judgement, besides those that the model names; such as (13, 198)
        stop_strings=(),  # texts that end a judgement; such as ("\n\nQuestion:",)
      ),
    )
  )
