"""What a tiny transformer forgets when it is fine-tuned on something narrow, by learning rate and epochs.

    python -m experiments.forgetting --workdir=runs/forgetting

It starts from a model of all that the crowd writes (`configs/tiny_sft.py`) and is shown careful answers to 128
problems of four and five steps. Plain text is what the crowd writes about held-out problems of every length.

Seed 0, two shared cores: 3 min 38 s, warm-up included. Before, and after 8 epochs: avg@8 on 80 held-out problems of
four and five steps, perplexity on plain text, distinct-2 of 16 samples a prompt:

    learning rate   avg@8                 perplexity   distinct-2
    before          0.302 [0.23, 0.37]          1.49        0.189
    1e-4            0.905 [0.88, 0.93]          1.83        0.103
    1e-3            0.884 [0.83, 0.93]          3.81        0.104
    1e-2            0.169 [0.12, 0.22]          39.1        0.396

1e-3 has most of that after one epoch (0.842) and by then costs more (2.25) than 1e-4 after eight. 1e-2 breaks the
model: its samples are varied as noise is, so distinct-2 is to be read beside the other two.
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_sft.training()
  for name in ("steps", "epochs", "max_skipped_updates"):  # the study sets them
    del config[name]
  config.seed = 0
  config.learning_rates = (1e-4, 1e-3, 1e-2)
  config.epochs = (1, 2, 4, 8)  # after which to measure; the last one ends a run
  config.batch_size = 16
  config.model = tiny_sft.model()
  config.mesh = dict(data=1, fsdp=1, tensor=1)
  config.warmup = tiny_reward_model.warmup()
  config.warmup.steps = 600
  config.warmup.optimizer.decay_updates = 600
  config.demonstrations.update(row_length=32, packed=False)
  # Without `demonstrations.path`: careful answers to `examples` problems of each of these numbers of steps, and
  # `problems` held-out ones to test on.
  config.narrow = dict(difficulties=(4, 5), examples=64, problems=40, seed=0)
  config.plain = dict(
    path="",  # FILE.jsonl or FILE.jsonl.gz; the procedural crowd where there is none
    field="prompt",  # column of the text
    per_difficulty=80,
    seed=1,
    limit=0,  # at most this many texts; 0 for all
    row_length=64,  # texts are cut there
  )
  config.samples = dict(
    prompts=60,  # texts that samples answer or go on from
    samples=16,  # of each
    chat=False,  # put the text through the chat template
    slots=128,
    max_prompt_length=16,  # longer texts are left out
    max_new_tokens=24,
  )
  config.rewards = tiny_sft.rewards()
  config.optimizer.update(schedule="constant", warmup_updates=0, decay_updates=0)
  config.eval = tiny_sft.evaluation()
  del config.eval["every"]
  config.checkpoint = dict(every=1000, keep=1, digest=True)
  config.logging = dict(
    tensorboard=False,
    console={"loss": "loss", "eval/heldout/avg@8": "held-out avg@8", "eval/validation/perplexity": "plain perplexity"},
  )
  return config
