"""Runs LIMA's supervised fine-tuning (2305.11206).

python -m experiments.sft --config=configs/sft_lima.py --config.model.path=MODEL \
  --config.demonstrations.path=chats.jsonl --config.mesh.fsdp=-1 --workdir=DIR

1,000 demonstrations, 15 epochs. AdamW (0.9, 0.95) with weight decay 0.1, no warm-up, learning rate falling linearly
from 1e-5 to 1e-6. A batch has 32 examples of at most 2,048 tokens. Residual dropout rises from 0 at the first layer to
0.3 at the last. The paper found that perplexity does not show quality. It chose among epochs 5 to 10 by hand, on 50
held-out prompts; `--config.checkpoint.keep=15` keeps all epochs. Not measured, because it needs your own model. All
fields are explained in configs/tiny_sft.py.
"""

from ml_collections import ConfigDict

from configs import tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_sft.get_config()
  config.steps = 0
  config.epochs = 15
  config.batch_size = 32
  config.dropout = dict(first=0.0, last=0.3)
  config.model.compute_dtype = "bfloat16"
  config.model.remat = "full"
  config.model.unroll = 1
  config.logprob_chunk = 1024
  config.demonstrations.update(limit=1000, chat=True, row_length=2048, packed=False, max_completion=0, too_long="cut")
  config.optimizer.update(
    learning_rate=1e-5,
    schedule="linear",
    end_fraction=0.1,
    warmup_updates=0,
    decay_updates=0,
    b2=0.95,
    weight_decay=0.1,
  )
  config.eval.every = 0
  config.checkpoint.every = 32  # an epoch
  config.logging.console = {"loss": "loss"}
  return config
