"""Trains your own models with InstructGPT's PPO-ptx (2203.02155, appendix C.4).

python -m experiments.ppo --config=configs/ppo_instructgpt.py --config.model.path=MODEL \
  --config.reward_model=REWARD_MODEL --config.prompts.path=prompts.jsonl \
  --config.ptx.demonstrations.path=documents.jsonl --config.eval.sets.heldout.prompts.path=held_out.jsonl \
  --config.mesh.fsdp=-1 --workdir=DIR

MODEL is a supervised model. All fields are explained in configs/tiny_ppo.py.

From the paper: 256,000 answers, 512 per step to as many prompts. Each answer is trained on once, in 8 mini-batches of
64. KL coefficient 0.02 without adaptation, no discount, clip 0.2, temperature 1. The value model starts from the reward
model; its learning rate is 9e-6. In every update the policy also learns pretraining text (documents with a column
`text`), with weight 27.8 and 8 times as many rows as answers. An average of the policy with decay 0.992 is evaluated
and kept as `average`.

Our choices, because the paper does not say or says otherwise: the policy's learning rate (the paper's depends on the
model's size), the coefficient and the clip of the value loss, the warm-up (from 1/80 of the learning rate, not 1/10),
λ = 0.95, and one update of the average per step. With `ppo_instructgpt.py:ppo` there is no pretraining text: PPO
instead of PPO-ptx.

Not measured, because it needs your own models and text.
"""

from ml_collections import ConfigDict

from configs import tiny_ppo


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "ppo"):
    raise ValueError(f"{arg!r}, expected nothing or ppo")
  config = tiny_ppo.get_config()
  config.steps = 500
  config.warmup.steps = 0
  config.model.compute_dtype = "bfloat16"
  config.model.remat = "full"
  config.model.unroll = 1
  config.prompts.chat = True
  config.rollout.update(groups=512, group_size=1, slots=512, max_prompt_length=1024, max_new_tokens=1024)
  config.kl.update(coefficient=0.02, estimator="k1", adaptive=False)
  config.gae.update(discount=1.0, lam_critic=0.95, lam_policy=0.95)
  config.whiten.update(rewards=True, advantages=True)
  config.objective.update(clip_low=0.2, clip_high=0.2, logprob_chunk=1024)
  config.learner.update(epochs=1, minibatches=8, tokens_per_micro_batch=16384)
  warmup = 10 * config.learner.minibatches  # ten steps
  config.optimizer.update(learning_rate=5e-6, schedule="constant", warmup_updates=warmup, b2=0.95, weight_decay=0.0)
  config.value.pretraining_steps = 0
  config.value.zero_head = False
  config.value.optimizer.update(
    learning_rate=9e-6, schedule="constant", warmup_updates=warmup, b2=0.95, weight_decay=0.0
  )
  config.ptx.update(coefficient=0.0 if arg == "ppo" else 27.8, rows=8 * 64, field="text")
  config.ptx.demonstrations.update(row_length=2048, packed=False)
  config.average.decay = 0.992
  config.eval.every = 25
  config.eval.best = "heldout_average/reward"
  config.eval.update(slots=256, max_prompt_length=1024, max_new_tokens=1024)
  config.eval.sets.heldout.update(samples=1, greedy=False)
  config.eval.sets.heldout.prompts.chat = True
  config.checkpoint.every = 25
  config.logging.console = {
    "reward/mean": "reward",
    "kl/answer": "KL to the reference",
    "eval/heldout_average/reward": "held-out reward",
  }
  return config
