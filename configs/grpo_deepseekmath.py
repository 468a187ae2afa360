"""Trains your own model with GRPO as in DeepSeekMath (2402.03300, section 4.2).

    python -m experiments.grpo --config=configs/grpo_deepseekmath.py --config.model.path=HF_DIRECTORY \
      --config.prompts.path=train.jsonl.gz --config.eval.sets.heldout.prompts.path=test.jsonl.gz --workdir=DIR

The paper's model has 7B parameters. Learning rate 1e-6, KL coefficient 0.04, 64 answers of at most 1,024 tokens per
question, 1,024 answers per step, one update per step. The paper does not name a mesh; this one is for 16 chips. Not
run. All fields are explained in configs/tiny_dapo.py.

Deviations: the paper's rewards come from a reward model (`reward_model`); here a boxed answer is compared. The paper
does not say how many steps it runs.
"""

from ml_collections import ConfigDict

from configs import tiny_grpo


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_grpo.get_config(arg)
  config.steps = 1000
  config.model.update(path="", compute_dtype="bfloat16", remat="full", unroll=1)
  config.mesh.update(data=1, fsdp=-1, tensor=1)
  config.warmup.steps = 0
  style = "boxed"
  for prompts in (config.prompts, config.eval.sets.heldout.prompts):
    prompts.chat = True
    prompts.template = "{prompt}\nPlease reason step by step, and put your final answer within \\boxed{}."
    prompts.over_limit = "drop"
  config.rewards.functions.correct.update(function="posttrain_jax.rewards.symbolic:math_equal")
  config.rewards.functions.correct.options.style = style
  config.rollout.update(
    groups=16, group_size=64, slots=1024, max_prompt_length=1024, max_new_tokens=1024, steps_per_dispatch=32
  )
  config.objective.logprob_chunk = 1024
  config.learner.update(updates_per_step=1, tokens_per_micro_batch=32768)
  config.optimizer.update(learning_rate=1e-6, warmup_updates=0, b2=0.999, weight_decay=0.0)
  config.eval.update(answer_style=style, slots=256, max_prompt_length=1024, max_new_tokens=1024, every=50)
  config.checkpoint.update(every=50, digest=False)
  return config
