"""DAPO's run on Qwen2.5-32B in full (2503.14476, section 4.1), and the same on the 7B and the 0.5B model.

    python -m experiments.dapo --config=configs/dapo_qwen2_5_32b.py --workdir=DIR \
      --config.model.path=Qwen2.5-32B --config.prompts.path=dapo_math_17k.jsonl \
      --config.eval.sets.aime2024.prompts.path=aime2024.jsonl
    python -m experiments.dapo --config=configs/dapo_qwen2_5_32b.py:7b --workdir=DIR       # or :0.5b

Not run. The paper reports 50 points on AIME 2024 (avg@32) for the 32B base model.

Files: the model is a Hugging Face directory; prompts are rows {"problem": ..., "answer": ...} whose answers are
integers; the template around a problem is the script's.

As the paper has it: 512 prompts of 16 answers a step and 16 updates on them, prompts of at most 2,048 and answers of
at most 20,480 tokens, of which the last 4,096 are the soft penalty's buffer; learning rate 1e-6, constant after 20
rollout steps of warm-up, AdamW; clip 0.2 and 0.28; rewards 1 and -1; no KL term; temperature 1. Evaluation: avg@32 at
temperature 1, top-p 0.7.

As the published script has it, where the paper says nothing or something else: token_mean (the paper's formula is
prompt_mean); three batches' worth of prompts, 1,536, generated at a time and at most ten times; weight decay 0.1,
gradient clipped at norm 1; answers read from the last `Answer:` in the last 300 characters; no overlong filtering.
Its warm-up is 10 steps, of the paper's 20 we take 20 (320 updates). Its later version's dual clip of 10 is off.

Deviations: a step that runs into the cap on generation ends the run with an error in the script and here too
(`at_cap="error"`), counted in prompts. The importance correction between engine and learner is off: the script has
none. The number of steps is not published; 400 is ours. Small variants change the model, and the mesh, and what their
size makes necessary: the 0.5B model's batch is 128 x 16 with answers of 4,096 tokens, buffer 1,024.

Memory of the 32B model, for v5p:4x4x8 (128 chips of 95.7 GiB: fsdp 32, tensor 4, which are the chips of one host,
since every host draws answers by itself). A row of a prompt and its 16 answers is 330,000 tokens, whose layer inputs
alone are 201 GiB; split along rows over `tensor`, 50. With two answers a row (`rows_per_prompt=8`; the prompt is
computed eight times, 4 % more tokens) and eight micro-batches there is one such row a device. The sampler's parameters
are 15.3 GiB a chip, and the cache of a slot 5 GiB over four chips: 1,024 slots are 40 GiB a chip, prompts 3 more. On
v6e:16x16 (256 chips of 31.25 GiB) that does not fit: there `--config.rollout.slots=512 --config.eval.slots=512` and
`--config.learner.micro_batches=4`, by the same count 28 GiB a chip. What was compiled is in launch/README.md.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo

_TEMPLATE = (
  "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
  "(without quotes) where $Answer is the answer to the problem.\n\n{prompt}\n\n"
  'Remember to put your answer on its own line after "Answer:".'
)
_SIZES = ("32b", "7b", "0.5b")


def get_config(arg: str = "32b") -> ConfigDict:
  """The run on a model of a size: 32b, 7b or 0.5b."""
  size = arg or "32b"
  if size not in _SIZES:
    raise ValueError(f"{arg!r}, expected one of {', '.join(_SIZES)}")
  config = tiny_dapo.get_config()
  config.steps = 400
  config.model = dict(
    path=f"Qwen2.5-{size.upper()}",  # a Hugging Face directory
    compute_dtype="bfloat16",
    remat="full",
    unroll=1,
  )
  config.mesh = {
    "32b": dict(data=1, fsdp=-1, tensor=4),
    "7b": dict(data=1, fsdp=-1, tensor=4),
    "0.5b": dict(data=-1, fsdp=1, tensor=1),
  }[size]
  config.warmup.steps = 0

  config.prompts.update(path="dapo_math_17k.jsonl", template=_TEMPLATE, chat=True, over_limit="drop")
  correct = config.rewards.functions.correct
  correct.weight = 1.0
  correct.options = dict(style="answer_line", incorrect=-1.0)
  config.rewards.workers = 16

  config.rollout.update(
    groups=512,
    group_size=16,
    slots=1024,
    max_prompt_length=2048,
    max_new_tokens=20480,
    steps_per_dispatch=64,
    prefill_width=16,
  )
  config.dynamic_sampling.update(
    enabled=True, admission="batch", batch_factor=3, max_prompts=10 * 3 * 512, at_cap="error"
  )
  config.overlong.update(penalty_buffer=4096, filter="off")
  config.objective.update(clip_low=0.2, clip_high=0.28, aggregation="token_mean", kl_coefficient=0.0, dual_clip=0.0)
  config.objective.correction.level = "off"
  config.objective.logprob_chunk = 2048
  config.learner.update(updates_per_step=16, micro_batches=8, rows_per_prompt=8)
  config.optimizer.update(
    learning_rate=1e-6, schedule="constant", warmup_updates=20 * 16, b2=0.999, weight_decay=0.1, clip_norm=1.0
  )

  config.eval.update(every=5, slots=1024, max_prompt_length=2048, max_new_tokens=20480, best="aime2024/avg@32")
  aime = config.eval.sets.heldout.copy_and_resolve_references()
  aime.prompts.update(path="aime2024.jsonl", template=_TEMPLATE, chat=True)
  aime.update(samples=32, greedy=False)
  aime.sampling.update(temperature=1.0, top_p=0.7)
  config.eval.sets = dict(aime2024=aime)
  config.checkpoint.update(every=5, keep=2, digest=False)
  config.logging.console = {
    "accuracy/mean": "accuracy",
    "length/mean": "length",
    "sampling/informative_share": "informative",
    "eval/aime2024/avg@32": "AIME avg@32",
  }

  if size == "0.5b":
    config.learner.update(micro_batches=1, rows_per_prompt=1)
    config.rollout.update(groups=128, slots=512, max_new_tokens=4096)
    config.dynamic_sampling.max_prompts = 10 * 3 * 128
    config.overlong.penalty_buffer = 1024
    config.eval.update(slots=512, max_new_tokens=4096)
  return config
