"""Lists what accelerators can do at most: arithmetic, memory, and links between chips.

Sources: for TPUs the tables in "How to Scale Your Model" (https://jax-ml.github.io/scaling-book/tpus, read on
2026-11-28). Google's own pages of v5e, v5p and v6e (https://docs.cloud.google.com/tpu/docs/v5e and so on, found in a
search on the same day) name peaks and memory bandwidths that differ by less than 3 %. Links are a tenth faster there:
50 GB/s in one direction on v5e, 100 on v5p and v6e. For GPUs NVIDIA's data sheets, without sparsity, compared on
2026-11-28 with reprints of their tables, and not with NVIDIA's own pages:

- A100 SXM4: https://glennklockwood.com/garden/processors/A100, from nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf;
  A100 80GB PCIe: https://www.thundercompute.com/blog/nvidia-a100-specs-full-guide.
- H100 SXM and PCIe: https://archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html (with sparsity: twice).
- H200: https://itkb.uw.cz/2026/06/nvidia-h200-vs-b300-precisions-cores.html (the products of H100 SXM).

Real programs reach less.
"""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Links:
  """Describes how chips of a slice are connected to their neighbours, and slices to each other.

  Attributes:
    bytes_per_second: of one link, in one direction.
    axes: of the torus: 2 or 3.
    network_bytes_per_second: a chip's share of its host's data-center network (DCN).
  """

  bytes_per_second: float
  axes: int
  network_bytes_per_second: float

  def closed(self, extents: Sequence[int]) -> tuple[bool, ...]:
    """Tells which axes of a slice are rings.

    A slice of two axes has a ring where an axis has the pod's full 16 chips. A slice of three axes has them only if it
    is made of whole cubes of 4 x 4 x 4 chips, which optical switches connect.

    Args:
      extents: chips along each axis.
    """
    if self.axes == 2:
      return tuple(extent == 16 for extent in extents)
    whole = all(extent % 4 == 0 for extent in extents)
    return (whole,) * len(extents)


@dataclasses.dataclass(frozen=True)
class Chip:
  """Describes one chip.

  Attributes:
    name: for messages.
    flops_per_second: peak of matrix products in the model's compute dtype; in the table, bfloat16.
    bytes_per_second: of its memory.
    memory_bytes: of its memory.
    links: to other chips; None if they are not known.
  """

  name: str
  flops_per_second: float
  bytes_per_second: float
  memory_bytes: float
  links: Links | None = None

  def rows_to_be_bound_by_compute(self, itemsize: int = 2) -> float:
    """Returns the rows above which a product with a weight takes longer than reading the weight.

    A row costs two FLOPs for each weight, and a weight has `itemsize` bytes (scaling book, "Inference": 240 on v5e).
    """
    return self.flops_per_second / self.bytes_per_second * itemsize / 2


_HOST = 2.5e10  # bytes/s of a host's network

# By `jax.Device.device_kind`.
CHIPS = {
  "TPU v4": Chip("v4", 2.75e14, 1.2e12, 32e9, Links(4.5e10, 3, _HOST / 4)),
  "TPU v5": Chip("v5p", 4.59e14, 2.8e12, 96e9, Links(9e10, 3, _HOST / 4)),
  "TPU v5 lite": Chip("v5e", 1.97e14, 8.1e11, 16e9, Links(4.5e10, 2, _HOST / 8)),
  "TPU v6 lite": Chip("v6e", 9.2e14, 1.6e12, 32e9, Links(9e10, 2, _HOST / 8)),
  "NVIDIA A100-SXM4-40GB": Chip("A100 40GB", 3.12e14, 1.555e12, 40e9),
  "NVIDIA A100-SXM4-80GB": Chip("A100 80GB", 3.12e14, 2.039e12, 80e9),
  "NVIDIA A100 80GB PCIe": Chip("A100 80GB PCIe", 3.12e14, 1.935e12, 80e9),
  "NVIDIA H100 80GB HBM3": Chip("H100", 9.89e14, 3.35e12, 80e9),
  "NVIDIA H100 PCIe": Chip("H100 PCIe", 7.56e14, 2.0e12, 80e9),
  "NVIDIA H200": Chip("H200", 9.89e14, 4.8e12, 141e9),
}


def chip_of(device_kind: str) -> Chip | None:
  """Returns the figures of a kind of device; None if they are not in the table."""
  return CHIPS.get(device_kind)
