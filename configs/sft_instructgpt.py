"""InstructGPT's supervised policy (2203.02155, appendix C.1): 16 epochs, and the epoch that a reward model likes best.

python -m experiments.sft --config=configs/sft_instructgpt.py --config.model.path=MODEL \
  --config.demonstrations.path=chats.jsonl --config.eval.reward_model=REWARD_MODEL \
  --config.eval.sets.heldout.prompts.path=prompts.jsonl --config.mesh.fsdp=-1 --workdir=DIR

Residual dropout 0.2, cosine decay to 10 %, 9.65e-6 and 32 examples a batch (the paper's values for 1.3B and 6B). After
each epoch the model answers held-out prompts and the reward model scores the answers; the best checkpoint is kept by
that score, as the validation loss overfits after the first epoch. Not measured: it wants a model and a reward model of
your own. The same with the tiny ones: `configs/sft_instructgpt.py:tiny`, after

python -m experiments.reward_model --workdir=runs/reward_model
python -m experiments.sft --config=configs/sft_instructgpt.py:tiny \
  --config.eval.reward_model=runs/reward_model --workdir=runs/sft_instructgpt

Measured, seed 0, 145 s beside other work: of 16 epochs the validation loss is lowest after the 8th (1.690), the reward
highest after the 7th (0.130; from -0.131 to 0.130 it is mostly noise at 240 problems x 8 answers).
"""

from ml_collections import ConfigDict

from configs import tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_sft.get_config()
  config.steps = 0
  config.epochs = 16
  config.batch_size = 32
  config.dropout = dict(first=0.2, last=0.2)
  config.eval.every = -1  # after each epoch
  config.eval.best = "heldout/reward"
  config.logging.console = {"loss": "loss", "eval/heldout/reward": "reward", "eval/validation/loss": "validation loss"}
  if arg == "tiny":
    config.demonstrations.update(per_difficulty=200, copies=1, held_out=0.1)
    config.optimizer.update(warmup_updates=20, decay_updates=0, end_fraction=0.1)
    config.dropout = dict(first=0.1, last=0.1)  # two layers do not stand 0.2
    return config
  if arg:
    raise ValueError(f"{arg!r}, expected nothing or tiny")
  config.model.compute_dtype = "bfloat16"
  config.model.remat = "full"
  config.model.unroll = 1
  config.logprob_chunk = 1024
  config.demonstrations.update(
    chat=True, row_length=2048, packed=False, max_completion=0, too_long="drop", held_out=0.05
  )
  config.optimizer.update(
    learning_rate=9.65e-6, schedule="cosine", end_fraction=0.1, warmup_updates=0, decay_updates=0, b2=0.95
  )
  config.eval.slots = 64
  config.eval.max_prompt_length = 1024
  config.eval.max_new_tokens = 512
  config.eval.sets.heldout.samples = 1
  config.eval.sets.heldout.greedy = False
  config.eval.sets.heldout.prompts.chat = True
  config.checkpoint.every = 500
  return config
