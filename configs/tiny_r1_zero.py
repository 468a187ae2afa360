"""Trains the tiny transformer as R1-Zero, with rewards by rules only.

    python -m experiments.grpo --config=configs/tiny_r1_zero.py --workdir=runs/r1_zero

Rewards are for the right answer and for keeping the template. The "base model" has read a little text of the crowd of
configs/tiny_sft.py, a third of it as <think>...</think><answer>...</answer>. So it knows the template and seldom keeps
it, and it knows how to work and mostly skims. Fields without a comment here are explained in configs/tiny_dapo.py.

Seed 0, about 130 s of CPU time with compilation, warm-up and evaluations; 240 held-out problems, 8 samples each:

| step | avg@8, 95 % interval | greedy | tokens of an answer | without an answer in the template |
|---|---|---|---|---|
| 0 | 0.082 [0.07, 0.10] | 0.004 | 8.9 | 0.745 |
| 20 | 0.447 [0.40, 0.49] | 0.567 | 12.2 | 0.009 |
| 40 | 0.608 [0.56, 0.65] | 0.696 | 12.8 | 0.007 |
| 60 | 0.626 [0.58, 0.68] | 0.675 | 12.7 | 0.003 |

The model learns the template first: 29 % of answers keep it at step 1, 98 % at step 8, when answers are not yet longer.
Then the model shows its work instead of skimming, so answers become longer and more of them are right. Then progress
stops: with --config.steps=100, avg@8 is 0.578 [0.52, 0.63] and answers have 12.3 tokens. The entropy has fallen from
0.45 to 0.08 nats per token.
"""

from ml_collections import ConfigDict

from configs import tiny_grpo


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_grpo.get_config(arg)
  config.steps = 60
  config.model.tags = True  # add the template's four tags to the tiny tokeniser
  config.warmup.steps = 450
  config.warmup.optimizer.decay_updates = 450
  config.warmup.demonstrations.tagged = 0.3  # probability that a demonstration is rewritten in the template
  config.warmup.demonstrations.max_completion = 32

  style = "tag"
  config.rewards.functions.correct.update(weight=1.0)
  config.rewards.functions.correct.options.style = style
  config.rewards.functions.format = dict(
    function="posttrain_jax.rewards.verifiers:think_answer_format", weight=1.0, options=dict(), lowest=0.0
  )

  config.rollout.update(groups=16, group_size=16, max_new_tokens=32)
  config.objective.update(clip_low=1.0, clip_high=10.0, kl_coefficient=0.001)
  config.reference.refresh_every = 20
  config.learner.update(updates_per_step=4)

  config.eval.update(answer_style=style, max_new_tokens=32)
  config.logging.console = {
    "accuracy/mean": "accuracy",
    "reward/format": "format",
    "length/mean": "tokens",
    "eval/heldout/avg@8": "held-out avg@8",
  }
  return config
