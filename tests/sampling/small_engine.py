"""Makes a transformer of a few thousand parameters and engines for it, which the tests share compiled."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.reshard import unstack_layers
from posttrain_jax.sampling import sizes
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, Prompt
from tests.models.rows_alone import rows_alone
from tests.random_params import graph, random_params

CONFIG = TransformerConfig(
  vocab_size=68, num_layers=2, embed_dim=32, mlp_dim=48, num_heads=4, num_kv_heads=2, head_dim=8, qkv_bias=True
)
MAX_PROMPT, MAX_NEW = 12, 10
PAGE = 4  # tokens
STOPS = (5, 17, 18, 40, 66)


stacked_params = functools.cache(random_params)


@functools.cache
def params(config=CONFIG) -> nnx.State:
  return unstack_layers(stacked_params(config), config.num_layers, "float32")


def new_engine(
  config=CONFIG, *, temperature=1.0, stop_ids=STOPS, sampling=None, mesh=None, decode=None, limit_of=None, **settings
) -> Engine:
  """Makes a separate engine with its parameters loaded.

  Pages have 4 tokens, so prompts and answers take one to three. Chunks have 8, so a prompt has one or two.
  """
  sampling = sampling or SamplingConfig(temperature=temperature, stop_ids=stop_ids)
  defaults = dict(
    slots=6,
    max_prompt_length=MAX_PROMPT,
    max_new_tokens=MAX_NEW,
    steps_per_dispatch=4,
    prefill_chunk=8,
    prefill_width=3,
    prefills_per_dispatch=2,
    share=3,
  )
  with mock.patch.object(sizes, "PAGE", PAGE):
    chosen = sizes.Sizes(**(defaults | settings))
    engine = Engine(config, sampling, chosen, seed=0, mesh=mesh, decode=decode, limit_of=limit_of)
  engine.load(params(config), version=3)
  return engine


# An idle engine has no memory of what it did, which is one of the things tested.
shared_engine = functools.cache(new_engine)


def prompts(count, *, vocab=CONFIG.vocab_size, longest=MAX_PROMPT, seed=0, attempt=0) -> list[Prompt]:
  """Makes prompts of all lengths, edges of chunks and 1 included."""
  rng = np.random.default_rng(seed)
  return [
    Prompt(index, tuple(int(x) for x in rng.integers(0, vocab, size=1 + (index * 5) % longest)), {}, attempt)
    for index in range(count)
  ]


def by_request(groups: list[Group]) -> dict[tuple[int, int, int], tuple[bytes, ...]]:
  """Maps (prompt, attempt, sample) to all bits of the answer, without its version."""
  return {
    (group.prompt.index, group.prompt.attempt, sample): (
      answer.tokens.tobytes(),
      answer.sampler_logprobs.tobytes(),
      answer.drawn_logprobs.tobytes(),
      int(answer.finish_reason),
    )
    for group in groups
    for sample, answer in enumerate(group.answers)
  }


def padded(groups: list[Group], longest=MAX_PROMPT, cap=MAX_NEW) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns (prompts [P, Tp], prompt lengths [P], answers [P, G, Tc]), right-padded."""
  tokens = np.zeros((len(groups), longest), np.int32)
  answers = np.zeros((len(groups), len(groups[0].answers), cap), np.int32)
  for i, group in enumerate(groups):
    tokens[i, : len(group.prompt.tokens)] = group.prompt.tokens
    for j, answer in enumerate(group.answers):
      answers[i, j, : len(answer.tokens)] = answer.tokens
  return tokens, np.array([len(group.prompt.tokens) for group in groups], np.int32), answers


@functools.partial(jax.jit, static_argnums=0)
def _answer_logits(graph, params, rows, places):
  model = nnx.merge(graph, params)
  return jnp.take_along_axis(row_hidden(model, rows), places[..., None], axis=1) @ model.unembedding()


def learner_logits(config: TransformerConfig, tokens, lengths, answers) -> np.ndarray:
  """Computes logits float32 [P, G, Tc, V] by a forward pass over whole rows, stacked layers, temperature 1."""
  logits = _answer_logits(graph(config), stacked_params(config), *rows_alone(tokens, lengths, answers))
  return np.asarray(logits).reshape(*answers.shape, -1)
