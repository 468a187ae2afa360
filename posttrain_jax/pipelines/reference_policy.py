"""The frozen reference of a preference method: a copy of the policy, and the KL that has grown since."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.models.buckets import bucket
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.pipelines.reference_logprobs import compute_logprobs
from posttrain_jax.pipelines.sampled_pairs import stack_answers
from posttrain_jax.types import Group

_ROWS = 16  # groups a batch


def frozen_copy(params: nnx.State) -> nnx.State:
  """A copy that no update donates, in the same shardings."""
  return _copy(params)


# Made once: a function made anew for every copy would be compiled anew.
_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


class KLToReference:
  """Measures how far a policy has gone from a reference, on answers that the policy sampled."""

  def __init__(self, model: TransformerConfig, reference: nnx.State, mesh: Mesh, *, chunk: int):
    """Keeps the reference.

    Args:
      model: the transformer, layers stacked.
      reference: its parameters; nobody may donate them.
      mesh: where they are.
      chunk: most tokens whose logits exist at a time on a device.
    """
    self._model, self._reference, self._mesh, self._chunk = model, reference, mesh, chunk

  def of_sets(self, sets: Mapping[str, Sequence[Group]], name: str) -> dict[str, float]:
    """The KL on each evaluation set's answers, as the metrics `eval/<set>/<name>`."""
    return {f"eval/{each}/{name}": self(groups) for each, groups in sets.items()}

  def __call__(self, groups: Sequence[Group]) -> float:
    """KL(π ‖ π_ref) in nats an answer: the mean over answers of Σ_t log π − log π_ref.

    Unbiased where the answers were drawn at temperature 1 without truncation; the logprobs of π are the sampler's.
    """
    size = len(groups[0].answers)
    # Powers of two, so that the next answers, a little longer, do not compile anew.
    widths = dict(
      prompt_width=bucket(max(len(group.prompt.tokens) for group in groups)),
      answer_width=bucket(max(int(group.lengths.max()) for group in groups)),
    )
    batches = []
    for start in range(0, len(groups), _ROWS):
      part = [(group, range(size)) for group in groups[start : start + _ROWS]]
      batch = stack_answers(part, count=_ROWS, answers=size, **widths)
      batch.index[: len(part)] += start
      batches.append(batch)
    reference = compute_logprobs(
      self._model, self._reference, batches, len(groups), self._mesh, chunk=self._chunk
    )  # [N, G]
    policy = [[answer.sampler_logprobs.sum(dtype=np.float64) for answer in group.answers] for group in groups]
    return float(np.mean(np.array(policy) - reference))
