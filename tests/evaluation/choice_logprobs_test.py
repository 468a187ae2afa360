import jax
import numpy as np
from flax import nnx

from posttrain_jax.evaluation.choice_logprobs import choice_logprobs
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from tests.random_params import graph, random_params

CONFIG = TransformerConfig(vocab_size=11, num_layers=1, embed_dim=8, mlp_dim=8, num_heads=2, num_kv_heads=1, head_dim=4)


@jax.jit
def token_logprobs(params, tokens):
  model = nnx.merge(graph(CONFIG), params)
  return jax.nn.log_softmax(row_hidden(model, tokens) @ model.unembedding())


def test_sums_are_those_of_each_answer_alone():
  params, mesh = random_params(CONFIG), make_mesh({}, jax.devices()[:1])
  prompts = [[1, 2, 3], [4]]
  choices = [[[5, 6], [5]], [[7, 8, 9], [7, 8, 9]]]  # of different lengths, and one twice
  found = choice_logprobs(CONFIG, params, prompts, choices, mesh)
  assert found.shape == (2, 2) and found[1, 0] == found[1, 1]
  for n, prompt in enumerate(prompts):
    for k, answer in enumerate(choices[n]):
      text = np.array([[*prompt, *answer, *[0] * (6 - len(prompt) - len(answer))]])  # later tokens change nothing
      logprobs = token_logprobs(params, text)[0]
      expected = sum(float(logprobs[len(prompt) - 1 + t, token]) for t, token in enumerate(answer))
      np.testing.assert_allclose(found[n, k], expected, rtol=1e-4)
