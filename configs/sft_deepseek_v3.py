"""Runs DeepSeek-V3's supervised fine-tuning (2412.19437, section 5.1).

python -m experiments.collect --config=configs/tiny_distillation.py ...      # makes both kinds of samples
python -m experiments.sft --config=configs/sft_deepseek_v3.py --config.model.path=MODEL \
  --config.demonstrations.path=demonstrations.jsonl --config.mesh.fsdp=-1 --workdir=DIR

Two epochs, learning rate falling from 5e-6 to 1e-6 by a cosine. The paper's data are 1.5M chats. They contain each
reasoning problem twice: with its original answer, and with the reasoner's answer under a system prompt that asks for
reflection. Samples are packed and do not attend to each other. The paper does not give the row length and the batch
size. Not measured, because it needs your own model. All fields are explained in configs/tiny_sft.py.
"""

from ml_collections import ConfigDict

from configs import tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_sft.get_config()
  config.steps = 0
  config.epochs = 2
  config.batch_size = 64
  config.model.compute_dtype = "bfloat16"
  config.model.remat = "full"
  config.model.unroll = 1
  config.logprob_chunk = 1024
  config.demonstrations.update(
    chat=True, row_length=8192, packed=True, max_completion=0, too_long="drop", held_out=0.01
  )
  config.optimizer.update(
    learning_rate=5e-6,
    schedule="cosine",
    end_fraction=0.2,
    warmup_updates=0,
    decay_updates=0,
    b2=0.95,
    weight_decay=0.1,
  )
  config.eval.every = -1  # after each epoch
  config.eval.best = "-validation/loss"
  config.eval.sets = {}
  config.checkpoint.every = 500
  config.logging.console = {"loss": "loss", "eval/validation/loss": "validation loss"}
  return config
