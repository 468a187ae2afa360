"""Pretrains a small transformer that reads bytes, on shards of raw text; then on longer rows.

    python -m experiments.prepare --config.input.paths=raw/ --workdir=runs/prepared
    python -m experiments.pretrain --config.corpus.path=runs/prepared --workdir=runs/pretrained

Fields without a comment here are explained in configs/tiny_sft.py. `model.path` names a model to go on from, with its
own tokeniser. docs/pretrain.md has what was measured.
"""

from ml_collections import ConfigDict

from configs import tiny_sft
from configs.recipes.costs import costs


def get_config(arg: str = "") -> ConfigDict:
  del arg
  sft = tiny_sft.get_config()
  config = ConfigDict()
  config.seed = 0
  config.model, config.mesh, config.memory = sft.model, sft.mesh, sft.memory
  config.model.update(vocabulary="bytes", num_layers=3, embed_dim=96, mlp_dim=256, unroll=3)
  config.steps, config.epochs, config.batch_size, config.micro_batches = 1200, 0, 16, 1
  config.logprob_chunk, config.max_skipped_updates = sft.logprob_chunk, sft.max_skipped_updates
  config.corpus = dict(
    path="",  # workdir of a finished experiments.prepare
    row_length=256,  # tokens of a row; documents follow each other and do not attend to each other
    held_out=0.05,  # share of the documents whose loss is measured, by a hash of their text; not trained on
    held_out_rows=256,  # most rows of them; 0: all
  )
  config.extension = dict(  # a second phase with longer rows, in WORKDIR/extended
    steps=120,  # its updates; 0: no such phase
    row_length=1024,  # tokens of its rows
    batch_size=4,  # its rows of an update
    rope_theta=10_000.0,  # base of its rotary frequencies; a larger one turns more slowly; 0: the model's
    learning_rate=1e-3,  # its peak
    warmup_updates=10,  # updates over which its rate rises
  )
  config.optimizer = sft.optimizer
  config.optimizer.update(learning_rate=3e-3, warmup_updates=50, decay_updates=0)
  config.eval = dict(
    every=200,  # steps between two measurements of the held-out loss; 0: none
    best="-validation/loss",  # the checkpoint with the lowest one is kept, too
  )
  config.checkpoint = sft.checkpoint
  config.checkpoint.every = 200
  config.logging = dict(
    tensorboard=False,
    report=True,
    console={"loss": "loss", "eval/validation/loss": "held-out loss"},
  )
  config.chips = costs().chips  # prices of kinds of accelerators, for an estimate
  config.chips.here = dict(  # this machine, of which estimate and actual hours are compared
    tflops=0.1,  # peak in float32 of the cores that are used
    training_use=0.5,  # share of the peak that updates reach
    sampling_use=0.1,
    dollars_per_hour=0.1,
  )
  return config
