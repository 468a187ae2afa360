"""Computes how long collectives over the axes of a mesh take at least.

The formulas are those of "How to Scale Your Model" (https://jax-ml.github.io/scaling-book/sharding): gathering an array
of V bytes takes V divided by the bandwidth, on however many chips. A ring gets each chip's bytes over two links. On a
line the last chip gets (n - 1) / n of them over one.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from jax.sharding import Mesh

from posttrain_jax.performance.chips import Chip, Links

_HOP_SECONDS = 1e-6  # from a chip to its neighbour (scaling book, "How to Think About TPUs", question 5)


@dataclasses.dataclass(frozen=True)
class Axis:
  """Describes one axis of a mesh as the chips' links see it.

  Attributes:
    size: devices along the axis.
    bytes_per_second: V divided by the seconds that gathering V bytes over the axis takes. Infinite if the size is 1.
    hops: links that the farthest message passes.
  """

  size: int
  bytes_per_second: float = math.inf
  hops: float = 0.0

  def gather_seconds(self, size: float, count: float = 1) -> float:
    """Returns the seconds of `count` all-gathers of arrays of `size` bytes each; of reduce-scatters too.

    Args:
      size: bytes of one whole array.
      count: collectives, one after the other.
    """
    return count * max(size / self.bytes_per_second, self.hops * _HOP_SECONDS) if count else 0.0

  def reduce_seconds(self, size: float, count: float = 1) -> float:
    """Returns the seconds of `count` all-reduces, each of which is a reduce-scatter and an all-gather."""
    return 2 * self.gather_seconds(size, count)


def axis_of(coordinates: Sequence[Sequence[int]], slices: Sequence[int], extents: Sequence[int], links: Links) -> Axis:
  """Returns the axis along which some chips lie.

  The chips use the links of each axis of the torus along which they differ. Where they are `stride` chips apart, as
  another axis of the mesh lies between them, as many groups share a link.

  Args:
    coordinates: of each chip in its slice, one number for each axis of the torus.
    slices: the slice of each chip.
    extents: chips of the whole slice along each axis of the torus.
    links: of the chips.
  """
  bandwidth, hops = 0.0, 0.0
  for places, extent, closed in zip(zip(*coordinates), extents, links.closed(extents)):
    places = sorted(set(places))
    if (members := len(places)) == 1:
      continue
    stride = min(after - before for before, after in itertools.pairwise(places))
    ring = closed and members * stride == extent
    bandwidth += links.bytes_per_second / stride * (2 if ring else members / (members - 1))
    hops += stride * (members / 2 if ring else members - 1)
  seconds = 1 / bandwidth if bandwidth else 0.0  # for a byte
  if (apart := len(set(slices))) > 1:  # each chip fetches from the other slices what its own slice then shares
    seconds += apart / len(slices) / links.network_bytes_per_second
  return Axis(len(slices), 1 / seconds if seconds else math.inf, hops)


def mesh_axes(mesh: Mesh, chip: Chip) -> Mapping[str, Axis] | None:
  """Returns each axis of a mesh of TPUs.

  None if there are several devices and their links are not known.
  """
  if mesh.size == 1:
    return {name: Axis(1) for name in mesh.axis_names}
  devices = mesh.devices
  if chip.links is None or not hasattr(devices.flat[0], "coords"):
    return None
  dimensions = range(len(devices.flat[0].coords))
  extents = [1 + max(device.coords[i] for device in devices.flat) for i in dimensions]
  found = {}
  for number, name in enumerate(mesh.axis_names):
    line = devices[tuple(slice(None) if i == number else 0 for i in range(devices.ndim))]
    coordinates = [device.coords for device in line]
    slices = [getattr(device, "slice_index", 0) for device in line]
    found[name] = axis_of(coordinates, slices, extents, chip.links)
  return found
