"""A trained reward model as a reward: the scalar score at a text's last token."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.models import heads
from posttrain_jax.models.buckets import map_rows
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import LEARNER_RULES, batch_sharding, batch_shards, constrain, state_shardings
from posttrain_jax.types import Group, InputError


# One for all instances, so that a reward model that is trained on is scored again without compiling again.
@functools.partial(jax.jit, static_argnums=0)
def score_rows(config: TransformerConfig, params: nnx.State, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
  """Score float32 [B] of rows of tokens int32 [B, T] of given lengths int32 [B], each at its last token."""
  graph, _ = abstract_transformer(config)
  return constrain(heads.row_scores(nnx.merge(graph, params), tokens, lengths), None)  # whole on every host


class ModelReward:
  """Scores texts in tokens; the texts have to be in the reward model's own tokens, which the caller checks."""

  def __init__(
    self,
    config: TransformerConfig,
    params: nnx.State,
    *,
    tokens_per_batch: int = 4096,
    mesh: Mesh | None = None,
    abstract: bool = False,
  ):
    """Puts the reward model on its devices; programs are compiled at the first use, one for each power-of-two length.

    Args:
      config: a transformer with a scalar head, layers stacked.
      params: its parameters. They are copied, those that are computed with in compute dtype only, in that dtype.
      tokens_per_batch: most tokens of a forward pass, unless a single row is longer.
      mesh: devices and layout; one device if None.
      abstract: make no array, for a mesh of devices that are not there; nothing can be scored then.

    Raises:
      InputError: the model has no scalar head.
    """
    if not config.scalar_head:
      raise InputError("model: is a language model, expected a reward model")
    self.config, self.tokens_per_batch = config, tokens_per_batch
    self.mesh = make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh

    def freeze(params):
      def one(variable):  # norms and the head, which have one axis, are computed in float32
        matrix = len(variable.get_metadata("logical_axes")) > 1
        return variable.replace(jnp.copy(variable.get_value()).astype(config.compute_dtype if matrix else jnp.float32))

      return jax.tree.map(one, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))

    self.row_sharding = batch_sharding(self.mesh)
    shardings = state_shardings(params, self.mesh, LEARNER_RULES)
    freeze = jax.jit(freeze, out_shardings=shardings)
    self.params = freeze.eval_shape(params) if abstract else freeze(jax.device_put(params, shardings))

  def score(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Score of each row at its last token.

    Args:
      rows: token ids of each row: prompt and answer, the token that ends the answer included.

    Returns:
      float32 [N], in the order of the rows.

    Raises:
      InputError: an empty row, or a token that the model has no embedding for.
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
    """Score of each group's answers, each with its prompt before it: float32 [G] a group.

    The ids that were drawn are scored as they are. An answer that ran into the cap has no end token and is scored at
    its last token as well, where the model has seldom been trained.
    """
    rows = [np.concatenate([group.prompt.tokens, answer.tokens]) for group in groups for answer in group.answers]
    ends = np.cumsum([len(group.answers) for group in groups])
    return np.split(self.score([row.astype(np.int32) for row in rows]), ends[:-1])
