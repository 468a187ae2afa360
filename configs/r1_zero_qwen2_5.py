"""Trains a Qwen2.5 base model as R1-Zero (2501.12948): RL with rewards by rules.

    python -m experiments.grpo --config=configs/r1_zero_qwen2_5.py:32b --workdir=DIR --config.model.path=Qwen2.5-32B \
      --config.prompts.path=train.jsonl.gz --config.eval.sets.heldout.prompts.path=test.jsonl.gz

There are no demonstrations. Sizes: 0.5b, 1.5b, 3b, 7b (without an argument), 14b, 32b; they differ in the model's path
and the mesh. Not run. DAPO's paper (2503.14476) reports 47 points on AIME 2024 for the method on the 32B base model.
All fields are explained in configs/tiny_dapo.py.

From the paper: GRPO, learning rate 3e-6, KL coefficient 0.001, temperature 1, 16 answers per question. A rollout of
8,192 answers (512 questions) is trained on once, in 16 mini-batches of 32 questions. The paper calls such a mini-batch
a step and runs 10,400 of them. Here a step is a rollout, so there are 650. The policy becomes the new reference every
25 steps, which are 400 of the paper's. Answers have at most 32,768 tokens. Two rules with equal weight give the reward:
the answer is right, and the template <think>...</think><answer>...</answer> is kept.

Deviations:
- The paper trains DeepSeek-V3-Base on reasoning problems of many kinds. Here the problems are mathematics, and computer
  algebra compares the answers. Rows are {"problem" or "prompt": ..., "answer": ...}.
- In the paper, the limit on answers grows to 65,536 tokens at step 8,200. To do so, start a second run from the first
  with --config.model.path=DIR --config.rollout.max_new_tokens=65536.
- The paper does not give the clip of R1-Zero. ε = 10 is the clip of R1's first stage of RL. A ratio is never below
  1 - 10, so there is no lower bound. Such a clip stops hardly anything, so watch `grad_norm` and `kl/`.
- A mini-batch is 32 whole groups in the shuffled order of the prompts; the paper splits answers at random.
- The weights for engine mismatch (`objective.correction`) are our addition; `--config.objective.correction.level=off`
  turns them off.
- The engine's caches hold 12,288 tokens for each slot. If answers become longer, fewer of them run at the same time.
- The template has line breaks before "User:" and "Assistant:"; the paper has full stops.
"""

from ml_collections import ConfigDict

from configs import tiny_grpo

_TEMPLATE = (
  "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
  "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
  "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
  "reasoning process here </think> <answer> answer here </answer>.\nUser: {prompt}\nAssistant:"
)
# Devices along the axis `tensor`. The other devices are along `fsdp`.
_TENSOR = {"0.5b": 1, "1.5b": 1, "3b": 1, "7b": 2, "14b": 4, "32b": 8}


def get_config(arg: str = "") -> ConfigDict:
  size = arg or "7b"
  if size not in _TENSOR:
    raise ValueError(f"{arg!r}, expected one of {', '.join(_TENSOR)}")
  config = tiny_grpo.get_config()
  config.steps = 650
  config.model.update(path=f"Qwen2.5-{size.upper()}", compute_dtype="bfloat16", remat="full", unroll=1)
  config.mesh.update(data=1, fsdp=-1, tensor=_TENSOR[size])
  config.warmup.steps = 0

  style = "tag"
  for prompts in (config.prompts, config.eval.sets.heldout.prompts):
    prompts.update(template=_TEMPLATE, chat=False, over_limit="drop")
  config.rewards.functions.correct.update(function="posttrain_jax.rewards.symbolic:math_equal", weight=1.0)
  config.rewards.functions.correct.options = dict(style=style)
  config.rewards.functions.format = dict(
    function="posttrain_jax.rewards.verifiers:think_answer_format", weight=1.0, options=dict(), lowest=0.0
  )
  config.rewards.workers = 16

  config.rollout.update(
    groups=512,
    group_size=16,
    slots=1024,
    cache_tokens=1024 * 12288,  # the paper's answers grow to about 10,000 tokens on average
    max_prompt_length=1024,
    max_new_tokens=32768,
    steps_per_dispatch=64,
    prefill_chunk=256,
    prefill_width=16,
  )
  config.objective.update(
    clip_low=1.0, clip_high=10.0, aggregation="sequence_mean", kl_coefficient=0.001, kl_estimator="k3"
  )
  config.objective.logprob_chunk = 2048
  config.reference.refresh_every = 25
  config.learner.update(updates_per_step=16, tokens_per_micro_batch=1024 + 32768)
  config.optimizer.update(learning_rate=3e-6, warmup_updates=0, b2=0.999, weight_decay=0.0)

  config.eval.update(answer_style=style, slots=512, max_prompt_length=1024, max_new_tokens=32768, every=25)
  config.checkpoint.update(every=25, digest=False)
  config.logging.console = {
    "accuracy/mean": "accuracy",
    "reward/format": "format",
    "length/mean": "tokens",
    "eval/heldout/avg@8": "held-out avg@8",
  }
  return config
