"""Times PyTorch with Hugging Face's Llama on the work of `experiments.benchmark`.

    python -m venv /tmp/torch && /tmp/torch/bin/pip install torch transformers
    /tmp/torch/bin/python launch/peers/time_torch.py [--runs=3]

Run both in one session on one machine to compare them. Rollouts are `generate` at temperature 1, as TRL's GRPO trainer
calls it. The update is the clipped surrogate with AdamW, in two ways: with the logits of all answer tokens at once, and
row by row like TRL's default micro-batch of one. The script imports nothing from posttrain_jax and prints one JSON
line.
"""

import json

import peer_work
import torch
from transformers import LlamaConfig, LlamaForCausalLM


def main():
  """Times rollouts and updates and prints the results."""
  asked = peer_work.asked()
  torch.manual_seed(0)
  config = LlamaConfig(
    vocab_size=49_152,
    num_hidden_layers=4,
    hidden_size=576,
    intermediate_size=1536,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
    attn_implementation="sdpa",
  )
  model = LlamaForCausalLM(config)
  answers = asked.prompts * asked.group
  prompts = torch.randint(3, config.vocab_size, (asked.prompts, asked.prompt_length))
  prompts = prompts.repeat_interleave(asked.group, 0)
  completions = torch.randint(3, config.vocab_size, (answers, asked.new_tokens))
  advantages = torch.tensor([1.0, -1.0]).repeat(answers // 2)[:, None]
  found = {"torch": torch.__version__, "threads": torch.get_num_threads(), **vars(asked)}

  @torch.no_grad()
  def generate(**sampling):
    lengths = dict(max_new_tokens=asked.new_tokens, min_new_tokens=asked.new_tokens)
    model.generate(prompts, attention_mask=torch.ones_like(prompts), pad_token_id=0, **lengths, **sampling)

  for name, sampling in (
    ("sampled", dict(do_sample=True, temperature=1.0, top_k=0)),
    ("greedy", dict(do_sample=False)),
  ):
    _, seconds = peer_work.timed(lambda run, sampling=sampling: generate(**sampling), asked.runs)
    found[f"rollout_{name}_tokens_per_second"] = round(answers * asked.new_tokens / seconds, 1)

  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

  def update(rows):
    optimizer.zero_grad()
    for first in range(0, answers, rows):
      part = slice(first, first + rows)
      tokens = torch.cat([prompts[part], completions[part]], 1)
      logits = model(tokens, logits_to_keep=asked.new_tokens + 1).logits[:, :-1]
      logprobs = torch.log_softmax(logits, -1).gather(2, completions[part][..., None])[..., 0]
      ratio = torch.exp(logprobs - logprobs.detach())
      clipped = torch.clamp(ratio, 0.8, 1.28)
      loss = -torch.min(ratio * advantages[part], clipped * advantages[part]).sum() / (answers * asked.new_tokens)
      loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

  for name, rows in (("whole", answers), ("row_by_row", 1)):
    _, seconds = peer_work.timed(lambda run, rows=rows: update(rows), asked.runs)
    found[f"update_{name}_seconds"] = round(seconds, 3)
  found["peak_memory_gib"] = peer_work.peak_memory_gib()
  print(json.dumps(found))


if __name__ == "__main__":
  main()
