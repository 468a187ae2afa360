"""Pretrains the base model of the assistant world on plain text, by next-token loss.

    python -m experiments.assistant_base --workdir=runs/base
    python -m experiments.assistant_base --config=configs/assistant_base.py:wide --workdir=runs/base_wide

Fields without a comment here are explained in configs/tiny_sft.py. The model must know
the facts of the corpus and not answer: asked a question, it goes on with more questions or speaks of something else.
"""

from ml_collections import ConfigDict

from configs import tiny_sft

# Width, updates and learning rate. The wider model learns more from each update, and must not work out too many sums.
SIZES = {"": (96, 1600, 3e-3), "wide": (192, 1600, 2e-3), "small": (48, 2400, 5e-3)}


def get_config(arg: str = "") -> ConfigDict:
  if arg not in SIZES:
    raise ValueError(f"{arg!r}, expected nothing, wide or small")
  config = tiny_sft.get_config()
  width, steps, learning_rate = SIZES[arg]
  config.model.update(vocabulary="words", num_layers=3, embed_dim=width, mlp_dim=width * 8 // 3, unroll=3)
  config.model.update(num_heads=width // 24, num_kv_heads=width // 24)
  config.steps, config.batch_size = steps, 16
  config.optimizer.update(learning_rate=learning_rate, decay_updates=0)
  config.demonstrations.update(row_length=96, max_completion=0, held_out=0.0)
  config.demonstrations.corpus = dict(
    documents=40_000,  # documents of a few sentences
    world=dict(
      seed=0,  # of what is true
      animals=50,  # four facts of each are told
      devices=4,  # harmful devices of each of the eight categories
      harmless=16,  # harmless devices
      new_facts=16,  # facts that only demonstrations may tell
      rare=40,  # animals whose five facts are mostly told a few times, so that a wider model knows more of them
      held_out=0.3,  # share of animals and devices that no data of post-training has
    ),
  )
  config.eval.every, config.eval.sets = 0, dict()  # `pipelines.assistant_base` measures what was made
  config.base = dict(  # what is measured of the base model, and what it must be
    requests=24,  # of each kind and part, except sums
    sums=200,  # requests to work out a sum, of each part
    samples=8,  # answers to each request; the 8 of pass@8
    max_new_tokens=48,  # limit on an answer, in tokens
    slots=64,  # answers that are drawn at the same time
    plain=128,  # new documents whose perplexity is measured
    lowest_pass=0.1,  # lowest pass@8 on sums: RL needs something to reinforce
    highest_pass=0.5,  # highest pass@8 on sums: RL needs something to add
  )
  config.checkpoint.every = 200
  config.logging.tensorboard = False
  config.logging.console = ConfigDict({"loss": "loss"})
  return config
