"""Times Tunix on the work of `experiments.benchmark`.

    python -m venv /tmp/tunix && /tmp/tunix/bin/pip install google-tunix==0.1.7 jax==0.10.2
    /tmp/tunix/bin/python launch/peers/time_tunix.py [--runs=3]

Run both in one session on one machine to compare them. Tunix's Llama has the sizes of `smol_4layer`. Rollouts use
Tunix's sampler (`tunix.generate.sampler.Sampler`). It takes strings, so the tokeniser here reads and writes numbers.
The update uses Tunix's GRPO loss (`tunix.rl.algo_core.grpo_loss_fn`), its gradient and AdamW. The script imports
nothing from posttrain_jax and prints one JSON line.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import peer_work
from flax import nnx
from tunix.generate import sampler as sampler_lib
from tunix.models.llama3 import model as llama
from tunix.rl import algo_core, common
from tunix.rl.grpo.grpo_learner import GRPOConfig


class Numbers:
  """Reads and writes token ids as numbers, in place of a tokeniser."""

  def encode(self, text, **_):
    return [int(number) for number in text.split()]

  def decode(self, ids, **_):
    return " ".join(map(str, np.asarray(ids).tolist()))

  def pad_id(self):
    return 0

  def bos_id(self):
    return 1

  def eos_id(self):
    return 2


def main():
  """Times rollouts and updates and prints the results."""
  asked = peer_work.asked()
  config = llama.ModelConfig(
    num_layers=4,
    vocab_size=49_152,
    embed_dim=576,
    hidden_dim=1536,
    num_heads=9,
    head_dim=64,
    num_kv_heads=3,
    rope_theta=100_000,
    norm_eps=1e-5,
    weight_tying=True,
  )
  model = llama.Llama3(config, rngs=nnx.Rngs(0))
  answers, length = asked.prompts * asked.group, asked.prompt_length + asked.new_tokens
  random = np.random.default_rng(0)
  prompts = np.repeat(random.integers(3, config.vocab_size, (asked.prompts, asked.prompt_length)), asked.group, axis=0)
  found = {"tunix": "0.1.7", **vars(asked)}

  sampler = sampler_lib.Sampler(
    model,
    Numbers(),
    sampler_lib.CacheConfig(
      cache_size=length, num_layers=4, num_kv_heads=config.num_kv_heads, head_dim=config.head_dim
    ),
  )
  texts = [" ".join(map(str, row[1:])) for row in prompts]  # the sampler adds the first id itself
  for name, sampling in (("sampled", dict(temperature=1.0, top_p=1.0)), ("greedy", {})):

    def generate(run, sampling=sampling):
      lengths = dict(max_generation_steps=asked.new_tokens, max_prompt_length=asked.prompt_length)
      jax.block_until_ready(sampler(texts, **lengths, eos_tokens=[config.vocab_size], seed=run, **sampling).tokens)

    first, seconds = peer_work.timed(generate, asked.runs)
    found[f"rollout_{name}_tokens_per_second"] = round(answers * asked.new_tokens / seconds, 1)
    found[f"rollout_{name}_first_call_seconds"] = round(first, 2)

  example = common.TrainExample(
    prompt_ids=jnp.asarray(prompts),
    prompt_mask=jnp.ones(prompts.shape, bool),
    completion_ids=jnp.asarray(random.integers(3, config.vocab_size, (answers, asked.new_tokens))),
    completion_mask=jnp.ones((answers, asked.new_tokens), bool),
    advantages=jnp.asarray(np.tile([1.0, -1.0], answers // 2)),
    ref_per_token_logps=None,
    old_per_token_logps=None,
  )
  algorithm = GRPOConfig(beta=0.0, num_generations=asked.group)
  algorithm.temperature = 1.0
  optimizer = nnx.Optimizer(model, optax.adamw(1e-5), wrt=nnx.Param)

  @nnx.jit
  def update(model, optimizer, example):
    def loss(model):
      return algo_core.grpo_loss_fn(model, example, algorithm, pad_id=0, eos_id=2)[0]

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value

  first, seconds = peer_work.timed(lambda run: jax.block_until_ready(update(model, optimizer, example)), asked.runs)
  found |= {"update_seconds": round(seconds, 3), "update_first_call_seconds": round(first, 2)}
  found["peak_memory_gib"] = peer_work.peak_memory_gib()
  print(json.dumps(found))


if __name__ == "__main__":
  main()
