"""Computes the least time of a program, from what it has to compute, read and send.

The formulas are those of "How to Scale Your Model" (https://jax-ml.github.io/scaling-book), parts "Training" and
"Inference":

- Products with weights take the larger of their FLOPs at the chip's peak and of reading the weights. So does attention,
  with the keys and values that it reads. The two follow each other.
- An optimiser's update reads and writes parameters and two moments, and reads the gradient, all float32.
- Over `fsdp`, weights are gathered for each pass, and gradients are scattered. Over `data`, gradients are summed.
- Over `tensor`, a pass gathers and scatters the residual stream twice a layer: for attention and for the MLP.
- Collectives take place while other things are computed. The time is the larger of both.

Reading and writing activations is left out, and so are norms, softmaxes, draws, and what a backward pass recomputes. So
a real program takes longer.
"""

import dataclasses
from collections.abc import Mapping

from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.chips import Chip
from posttrain_jax.performance.counts import Copy, Pass, PassKind
from posttrain_jax.performance.links import Axis


@dataclasses.dataclass(frozen=True)
class Times:
  """Holds the seconds that one call needs at least.

  Attributes:
    compute: of its FLOPs at the chip's peak.
    memory: of its reads and writes at the memory's bandwidth.
    links: of its collectives.
    device: on each chip without collectives: products and attention, each bound by compute or memory.
  """

  compute: float
  memory: float
  links: float
  device: float

  @property
  def least(self) -> float:
    """Returns the seconds of a call in which collectives take place during other work."""
    return max(self.device, self.links)

  @property
  def bound(self) -> str:
    """Names what takes longest: "compute", "memory" or "links"."""
    if self.links > self.device:
      return "links"
    return "compute" if self.compute >= self.memory else "memory"


def device_seconds(
  chip: Chip, *, weight_flops: float, weight_bytes: float, attention_flops: float = 0, cache_bytes: float = 0
) -> float:
  """Returns the least seconds of products with weights and of attention on one chip.

  Args:
    chip: its peaks.
    weight_flops: FLOPs of products with weights.
    weight_bytes: bytes of weights that are read.
    attention_flops: FLOPs of attention.
    cache_bytes: bytes of keys and values that are read.
  """
  products = max(weight_flops / chip.flops_per_second, weight_bytes / chip.bytes_per_second)
  return products + max(attention_flops / chip.flops_per_second, cache_bytes / chip.bytes_per_second)


def least_times(work: Pass | Copy, chip: Chip, axes: Mapping[str, Axis]) -> Times:
  """Returns the least times of one call on chips that share its work equally.

  Args:
    work: what the call does.
    chip: what each chip can do.
    axes: of the mesh: "data", "fsdp" and "tensor".
  """
  if isinstance(work, Copy):
    moving = work.moved / chip.bytes_per_second
    return Times(0.0, moving, axes["fsdp"].gather_seconds(work.gathered), moving)
  data, fsdp, tensor = axes["data"], axes["fsdp"], axes["tensor"]
  chips = data.size * fsdp.size * tensor.size
  model = work.model
  attention_flops = work.passes * 4 * model.num_layers * model.num_heads * model.head_dim * work.pairs / chips
  weight_flops = work.flops / chips - attention_flops
  weight_bytes, cache_bytes = (work.parts * each for each in read_bytes(work, axes))
  seconds = device_seconds(
    chip,
    weight_flops=weight_flops,
    weight_bytes=weight_bytes,
    attention_flops=attention_flops,
    cache_bytes=cache_bytes,
  )
  # Parameters and two moments are read and written, the gradient is read.
  optimizer_bytes = 7 * 4 * model.num_params / (fsdp.size * tensor.size) if work.kind is PassKind.UPDATE else 0
  optimizer = optimizer_bytes / chip.bytes_per_second
  return Times(
    compute=(weight_flops + attention_flops) / chip.flops_per_second,
    memory=(weight_bytes + cache_bytes) / chip.bytes_per_second + optimizer,
    links=_link_seconds(work, data, fsdp, tensor),
    device=seconds + optimizer,
  )


def read_bytes(work: Pass, axes: Mapping[str, Axis]) -> tuple[float, float]:
  """Returns the bytes of weights and of live caches that a chip reads.

  Both are for one part of a call: a micro-batch or a decode step.
  """
  weights = work.passes * work.weights * work.itemsize / axes["tensor"].size
  chips = axes["data"].size * axes["fsdp"].size * axes["tensor"].size
  return weights, work.cache_tokens * work.cache_bytes_of_token / chips


def _link_seconds(work: Pass, data: Axis, fsdp: Axis, tensor: Axis) -> float:
  """Returns the seconds of all collectives of a call, one after the other."""
  model, itemsize, seconds = work.model, work.itemsize, 0.0
  weights = work.weights * itemsize / tensor.size
  if work.kind is not PassKind.SAMPLE:  # an update gathers weights twice and scatters gradients once
    seconds += fsdp.gather_seconds(weights / model.num_layers, work.parts * work.passes * model.num_layers)
  if work.kind is PassKind.UPDATE:
    seconds += data.reduce_seconds(weights / fsdp.size / model.num_layers, work.parts * model.num_layers)
  stream = work.tokens / work.parts / (data.size * fsdp.size) * model.embed_dim * itemsize
  return seconds + tensor.reduce_seconds(stream, work.parts * work.passes * model.num_layers * 2)


def warnings(work: Pass, chip: Chip, axes: Mapping[str, Axis]) -> list[str]:
  """Says where there is too little work for a chip's peak.

  Args:
    work: what a call does.
    chip: what each chip can do.
    axes: of the mesh: "data", "fsdp" and "tensor".

  Returns:
    A line each for: rows that are too few to pay for reading weights, tokens that are too few to pay for gathering
    weights over `fsdp`, and a `tensor` axis that is too large for a layer's collectives.
  """
  data, fsdp, tensor = axes["data"], axes["fsdp"], axes["tensor"]
  itemsize = work.itemsize
  rows = work.tokens / work.parts / (data.size * fsdp.size)
  needed = chip.rows_to_be_bound_by_compute(itemsize)
  found = []
  if rows < needed:
    found.append(
      f"{rows:.0f} rows a batch shard, expected at least {needed:.0f} on {chip.name}: with fewer, reading weights "
      "takes longer than multiplying them"
    )
  gathered = chip.flops_per_second / fsdp.bytes_per_second * itemsize / 2
  if work.kind is not PassKind.SAMPLE and rows < gathered:
    found.append(
      f"{rows:.0f} tokens a batch shard and micro-batch, expected at least {gathered:.0f} on {chip.name} with fsdp="
      f"{fsdp.size}: with fewer, gathering weights takes longer than multiplying them"
    )
  most = _most_tensor(work.model, chip, tensor, itemsize)
  if rows >= needed and tensor.size > most:
    found.append(
      f"tensor={tensor.size}, expected at most {most:.1f} on {chip.name}: with more, the collectives of a layer take "
      "longer than its products"
    )
  return found


def _most_tensor(model: TransformerConfig, chip: Chip, tensor: Axis, itemsize: int) -> float:
  """Returns the size of `tensor` above which a layer's collectives take longest.

  At that size, the four collectives take as long as the products. For an MLP of two matrices and its two collectives,
  this is the book's F / (C / W).
  """
  weights = sum(inputs * outputs * count for inputs, outputs, count in flops.kernels(model)) / model.num_layers
  products = 2 * weights / chip.flops_per_second  # seconds a row, on one chip
  return products * tensor.bytes_per_second / (4 * model.embed_dim * itemsize)
