"""Writes workdirs with random models, for stages that start from one."""

from posttrain_jax.assembly.model import Policy, save_description
from posttrain_jax.data import demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.models.config import TransformerConfig
from tests.random_params import random_params

TOKENIZER = tiny_tokenizer(demonstrations.SYMBOLS)
SIZES = dict(num_layers=1, embed_dim=16, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8)


def save_model(folder, *seeds, best=None, tokenizer=TOKENIZER, **sizes):
  """Writes a workdir with a checkpoint for each seed, as steps 1, 2, ...

  Returns the parameters of each; `best` is the step that is marked as best.
  """
  model = TransformerConfig(vocab_size=tokenizer.vocab_size, **{**SIZES, **sizes})
  folder.mkdir(parents=True)
  found = [random_params(model, seed=seed) for seed in seeds]
  save_description(Policy(model, tokenizer), folder)
  with Checkpointer(folder / "checkpoints", keep=len(seeds)) as checkpoints:
    for step, params in enumerate(found, 1):
      checkpoints.save(step, {"params": params}, {}, best=step == best)
  return found
