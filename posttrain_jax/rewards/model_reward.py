"""Scores texts with a trained reward model: the scalar at a text's last token."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from posttrain_jax import compiled_once
from posttrain_jax.models import heads
from posttrain_jax.models.buckets import map_rows
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import LEARNER_RULES, batch_sharding, batch_shards, constrain, state_shardings
from posttrain_jax.types import Group, InputError


# One program for all instances: a reward model that is trained further is used again without compiling again.
@functools.partial(jax.jit, static_argnums=0)
def score_rows(config: TransformerConfig, params: nnx.State, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
  """Scores rows of tokens int32 [B, T] with lengths int32 [B]: float32 [B]."""
  graph, _ = abstract_transformer(config)
  return constrain(heads.row_scores(nnx.merge(graph, params), tokens, lengths), None)  # whole on every host


class ModelReward:
  """Scores rows of tokens with a reward model.

  The rows must be in the reward model's own tokens; the caller checks this.

  Attributes:
    config: the reward model.
    params: its parameters on the devices.
    mesh: the devices.
    tokens_per_batch: cap on the tokens of a forward pass.
    row_sharding: layout of a batch of rows.
  """

  def __init__(
    self,
    config: TransformerConfig,
    params: nnx.State,
    *,
    tokens_per_batch: int = 4096,
    mesh: Mesh | None = None,
    abstract: bool = False,
  ):
    """Copies the parameters to the devices.

    Programs are compiled at the first use, one for each power-of-two length.

    Args:
      config: a transformer with a scalar head, layers stacked.
      params: its parameters. They are copied; matrices are converted to compute dtype.
      tokens_per_batch: cap on the tokens of a forward pass; only a single longer row exceeds it.
      mesh: devices and layout; one device if None.
      abstract: makes shapes in place of arrays, for a mesh of devices that this machine does not have. Nothing can be
        scored then.

    Raises:
      InputError: if the model has no scalar head.
    """
    if not config.scalar_head:
      raise InputError("model: is a language model, expected a reward model")
    self.config, self.tokens_per_batch = config, tokens_per_batch
    self.mesh = make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh
    self.row_sharding = batch_sharding(self.mesh)
    shardings = state_shardings(params, self.mesh, LEARNER_RULES)
    freeze = compiled_once.jit(functools.partial(_freeze, config.compute_dtype), out_shardings=shardings)
    self.params = freeze.eval_shape(params) if abstract else freeze(jax.device_put(params, shardings))

  def score(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Scores each row at its last token.

    Args:
      rows: token ids of each row: prompt and answer, the token that ends the answer included.

    Returns:
      float32 [N], in the order of the rows.

    Raises:
      InputError: if a row is empty or has a token outside the model's vocabulary.
    """
    for number, row in enumerate(rows):
      if not len(row):
        raise InputError(f"row {number}: found no tokens, expected at least one")
      if not 0 <= min(row) <= max(row) < self.config.vocab_size:
        raise InputError(f"row {number}: expected token ids from 0 to {self.config.vocab_size - 1} of the reward model")

    def scores(tokens, lengths):
      tokens, lengths = jax.device_put((tokens, lengths), self.row_sharding)
      return score_rows(self.config, self.params, tokens, lengths)

    with jax.set_mesh(self.mesh):
      found = map_rows(scores, rows, tokens_per_batch=self.tokens_per_batch, shards=batch_shards(self.mesh))
    return np.array(found, np.float32)

  def score_groups(self, groups: Sequence[Group]) -> list[np.ndarray]:
    """Scores each group's answers, each with its prompt before it.

    The sampled token ids are scored without decoding them to text. An answer that reached the cap has no end token. It
    is scored at its last token too, although the model was seldom trained there.

    Returns:
      float32 [G] for each group.
    """
    rows = [np.concatenate([group.prompt.tokens, answer.tokens]) for group in groups for answer in group.answers]
    ends = np.cumsum([len(group.answers) for group in groups])
    return np.split(self.score([row.astype(np.int32) for row in rows]), ends[:-1])


def _freeze(dtype: DTypeLike, params: nnx.State) -> nnx.State:
  def one(variable):  # norms and the head have one axis and are computed in float32
    matrix = len(variable.get_metadata("logical_axes")) > 1
    return variable.replace(jnp.copy(variable.get_value()).astype(dtype if matrix else jnp.float32))

  return jax.tree.map(one, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
