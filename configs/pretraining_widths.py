"""Pretrains models of three widths on the same tokens: held-out loss against tokens and size.

    python -m experiments.pretraining_widths --config.run.corpus.path=runs/prepared --workdir=runs/widths

The fields of `run` are those of configs/pretrain.py. Its width is a unit: the MLP keeps its ratio to it, and heads keep
their size.
"""

from ml_collections import ConfigDict

from configs import pretrain


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.run = pretrain.get_config()
  del config.run.chips
  config.run.extension.steps = 0
  # Pairs of the width of the residual stream, a multiple of run.model.head_dim, and the peak learning rate.
  config.widths = ((48, 5e-3), (96, 3e-3), (192, 2e-3))
  return config
