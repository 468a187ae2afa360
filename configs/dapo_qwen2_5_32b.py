"""Trains Qwen2.5-32B with DAPO as in the paper (2503.14476, section 4.1).

    python -m experiments.dapo --config=configs/dapo_qwen2_5_32b.py --workdir=DIR \
      --config.model.path=Qwen2.5-32B --config.prompts.path=dapo_math_17k.jsonl \
      --config.eval.sets.aime2024.prompts.path=aime2024.jsonl
    python -m experiments.dapo --config=configs/dapo_qwen2_5_32b.py:7b --workdir=DIR       # or :0.5b

The argument is the size of the model: 32b, 7b or 0.5b. This config was not run. The paper reports 50 points on AIME
2024 (avg@32) for the 32B base model. All fields are explained in configs/tiny_dapo.py.

Files: the model is a Hugging Face directory. Prompts are rows {"problem": ..., "answer": ...} with integers as answers.
The template around a problem is that of the published script.

From the paper: 512 prompts with 16 answers per step and 16 updates on them. Prompts have at most 2,048 tokens and
answers at most 20,480, of which the last 4,096 are the buffer of the soft penalty. AdamW with learning rate 1e-6,
constant after 20 rollout steps of warm-up. Clip 0.2 and 0.28, rewards 1 and -1, no KL term, temperature 1. Evaluation:
avg@32 at temperature 1, top-p 0.7.

From the published script, if the paper says nothing or something else: token_mean (the paper's formula is prompt_mean).
The prompts of three batches, 1,536, are generated at a time, and at most ten times per step. Weight decay 0.1,
gradients clipped at norm 1. The answer is the last `Answer:` in the last 300 characters. No overlong filtering. The
warm-up is an exception: the script has 10 steps, the paper 20, and we take 20 (320 updates). The dual clip of 10 in a
later version of the script is off.

Deviations: if a step reaches the cap on generation, the run ends with an error, as in the script (`at_cap="error"`);
here the cap counts prompts. The importance correction between engine and learner is off, as the script has none. The
number of steps is not published; 400 is our choice. The smaller sizes change the model and the mesh. The 0.5B model
also has smaller batches of 128 x 16 and answers of 4,096 tokens with a buffer of 1,024.

Memory of the 32B model on v5p:4x4x8, which has 128 chips of 95.7 GiB. The mesh is fsdp 32 and tensor 4; tensor has the
chips of one host, because every host draws its answers alone. A prompt and its 16 answers of greatest length have
330,000 tokens. Their layer inputs alone take 201 GiB, or 50 GiB if rows are split over `tensor`. So a micro-batch has
43,008 tokens on each batch shard (`tokens_per_micro_batch`), which hold a prompt with two answers of greatest length,
and more that are shorter.

Slots and caches are chosen for real answers: 500 to 8,000 tokens, about 4,000 on average. If their lengths are
geometric, a running answer has drawn 4,000 tokens on average, too; its share of the prompt is 128. So caches have 6,144
tokens for each slot (`cache_tokens`), half as much again. If they run out, the youngest answers wait. A chip holds 64
KiB of a token of 32B, and 14 KiB of 7B.

- 32B on v5p:4x4x8: 4,096 slots are 128 rows on each of 32 batch shards. A chip holds 15.3 GiB of the sampler's
  parameters and 48 of caches. A decode step reads all weights, so few rows waste bandwidth. 164 rows, which take as
  long to multiply as the weights to read, would need 61 GiB of caches.
- 7B on v5p:2x2x4: 1,024 slots are 256 rows on each of 4 batch shards, with 21 GiB of caches on a chip. By the formula
  of `experiments.compile`, more rows draw no more tokens a second.
- 7B on v6e:8x8: `--config.rollout.slots=4096 --config.rollout.cache_tokens=25165824`, 256 rows and 21 GiB on a chip.
- 32B on v6e:16x16 (256 chips of 31.25 GiB): `--config.rollout.slots=2048 --config.rollout.cache_tokens=9437184`, which
  are 32 rows and 9 GiB of caches on a chip.

launch/README.md lists what was compiled.
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
  """Returns the config for a size of the model: 32b, 7b or 0.5b."""
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

  slots = {"32b": 4096, "7b": 1024, "0.5b": 512}[size]
  config.rollout.update(
    groups=512,
    group_size=16,
    slots=slots,
    cache_tokens=6144 * slots,
    max_prompt_length=2048,
    max_new_tokens=20480,
    steps_per_dispatch=64,
    prefill_chunk=256,
    prefill_width=16,
  )
  config.dynamic_sampling.update(
    enabled=True, admission="batch", batch_factor=3, max_prompts=10 * 3 * 512, at_cap="error"
  )
  config.overlong.update(penalty_buffer=4096, filter="off")
  config.objective.update(clip_low=0.2, clip_high=0.28, aggregation="token_mean", kl_coefficient=0.0, dual_clip=0.0)
  config.objective.correction.level = "off"
  config.objective.logprob_chunk = 2048
  config.learner.update(updates_per_step=16, tokens_per_micro_batch=2048 + 2 * 20480)
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
    config.learner.tokens_per_micro_batch = 2048 + 4096 * 8
    config.rollout.update(groups=128, max_new_tokens=4096)
    config.rollout.cache_tokens = None  # from the devices' memory, as no number of them is assumed
    config.dynamic_sampling.max_prompts = 10 * 3 * 128
    config.overlong.penalty_buffer = 1024
    config.eval.update(slots=512, max_new_tokens=4096)
  return config
