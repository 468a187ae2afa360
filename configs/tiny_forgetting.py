"""Measures what a tiny transformer forgets in fine-tuning on a narrow task.

    python -m experiments.forgetting --workdir=runs/forgetting

Learning rates and numbers of epochs are compared. The first model has learned from the whole crowd
(configs/tiny_sft.py). It is fine-tuned on careful answers to 128 problems of four and five steps. The plain text is
written by the crowd about held-out problems of every length. Fields without a comment here
are explained in configs/tiny_sft.py.

Seed 0, two shared cores: 3 min 38 s, warm-up included. Before, and after 8 epochs: avg@8 on 80 held-out problems of
four and five steps, perplexity on plain text, distinct-2 of 16 samples a prompt:

    learning rate   avg@8                 perplexity   distinct-2
    before          0.302 [0.23, 0.37]          1.49        0.189
    1e-4            0.905 [0.88, 0.93]          1.83        0.103
    1e-3            0.884 [0.83, 0.93]          3.81        0.104
    1e-2            0.169 [0.12, 0.22]          39.1        0.396

1e-3 reaches 0.842 after one epoch, and its perplexity is then already higher (2.25) than that of 1e-4 after eight
epochs. 1e-2 breaks the model: its samples vary like noise. So distinct-2 means something only together with the other
two columns.
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_sft.training()
  for name in ("steps", "epochs", "max_skipped_updates"):  # the study sets them for each run
    del config[name]
  config.seed = 0  # seed of all random draws of the run
  config.learning_rates = (1e-4, 1e-3, 1e-2)  # one run each
  config.epochs = (1, 2, 4, 8)  # epochs after which a run is measured; the last one ends the run
  config.batch_size = 16  # rows of an update
  config.model = tiny_sft.model()
  config.mesh = dict(  # devices along each axis; one axis may be -1: all that are left
    data=1,  # copies of the model; each takes a part of the batch
    fsdp=1,  # shards of the parameters and the optimiser state; each takes a part of the batch
    tensor=1,  # shards of heads, MLP and vocabulary
  )
  config.warmup = tiny_reward_model.warmup()  # supervised training before the study; steps=0: none
  config.warmup.steps = 600
  config.warmup.optimizer.decay_updates = 600
  config.demonstrations.update(row_length=32, packed=False)
  config.narrow = dict(  # the narrow task; it has an effect only if `demonstrations.path` is empty
    difficulties=(4, 5),  # numbers of steps of its problems
    examples=64,  # careful answers to train on, for each number of steps
    problems=40,  # held-out problems to test on, for each number of steps
    seed=0,  # decides which problems are drawn
  )
  config.plain = dict(  # the text whose perplexity is measured
    path="",  # FILE.jsonl or FILE.jsonl.gz; empty: the procedural crowd
    field="prompt",  # column of the text
    per_difficulty=80,  # without a path: held-out problems of each number of steps
    seed=1,  # without a path: decides which problems and demonstrations are drawn
    limit=0,  # use at most this many texts; 0: all
    row_length=64,  # limit on a text, in tokens; longer texts are cut
  )
  config.samples = dict(  # samples at temperature 1 whose variety is measured
    prompts=60,  # plain texts that are used as prompts
    samples=16,  # samples per prompt
    chat=False,  # render the text with the chat template
    slots=128,  # samples that are drawn at the same time
    max_prompt_length=16,  # limit on prompts, in tokens; longer texts are left out
    max_new_tokens=24,  # limit on samples, in tokens, the stop token included
  )
  config.rewards = tiny_sft.rewards()
  config.optimizer.update(schedule="constant", warmup_updates=0, decay_updates=0)
  config.eval = tiny_sft.evaluation()
  for name in ("every", "own_share", "own_limit"):  # the study says when and on what it evaluates
    del config.eval[name]
  config.checkpoint = dict(
    every=1000,  # steps between two checkpoints
    keep=1,  # newest checkpoints that stay; the best one stays as well
    digest=True,  # write `params_sha256` to metrics.jsonl at each checkpoint
  )
  config.logging = dict(
    tensorboard=False,  # write TensorBoard events
    # Metrics shown in the terminal, with their labels.
    console={"loss": "loss", "eval/heldout/avg@8": "held-out avg@8", "eval/validation/perplexity": "plain perplexity"},
  )
  return config
