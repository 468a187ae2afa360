"""Says what a run's programs reach at best on their chips."""

from collections.abc import Iterable, Mapping
from typing import Any

from jax.sharding import Mesh

from posttrain_jax.performance.chips import Chip, chip_of
from posttrain_jax.performance.compile.program import Program
from posttrain_jax.performance.counts import Pass, PassKind
from posttrain_jax.performance.least_time import least_times, read_bytes, warnings
from posttrain_jax.performance.links import Axis, mesh_axes
from posttrain_jax.performance.timing import rounded


def program_at_best(program: Program) -> dict[str, Any] | None:
  """Describes one call of a program on its mesh.

  Returns:
    "seconds" and what bounds them, and the seconds of compute, memory and links each. If tokens run through the model,
    also tokens a second a chip, the share of the peak that the model's FLOPs are ("mfu"), GiB of weights and of live
    caches that a chip reads in each micro-batch or decode step, and a list of warnings. None if the chip or its links
    are not known.
  """
  if (known := _chip_and_axes(program.mesh)) is None:
    return None
  times = least_times(program.work, *known)
  found: dict[str, Any] = {
    "seconds": rounded(times.least),
    "bound": times.bound,
    "compute_seconds": rounded(times.compute),
    "memory_seconds": rounded(times.memory),
    "links_seconds": rounded(times.links),
  }
  if isinstance(program.work, Pass):
    found["tokens_per_second_per_chip"] = rounded(program.work.tokens / times.least / program.mesh.size)
    found["mfu"] = rounded(times.compute / times.least)
    weights, cache = read_bytes(program.work, known[1])
    found |= {"weights_gib_read": rounded(weights / 2**30), "cache_gib_read": rounded(cache / 2**30)}
    found["warnings"] = warnings(program.work, *known)
  return found


def step_at_best(programs: Iterable[Program]) -> dict[str, Any] | None:
  """Describes a step that calls its programs one after the other.

  Each is called as often as in a run.

  Returns:
    Seconds, the share of the peak and, if the run draws tokens, how many of them a second a chip. None if the chip or
    its links are not known.
  """
  programs = list(programs)
  seconds = flops = drawn = 0.0
  for program in programs:
    if (known := _chip_and_axes(program.mesh)) is None:
      return None
    chip, work = known[0], program.work
    seconds += program.calls * least_times(work, *known).least
    flops += program.calls * work.flops
    if isinstance(work, Pass) and work.kind is PassKind.SAMPLE:
      drawn += program.calls * work.logits
  chips = max(program.mesh.size for program in programs)
  found = {"seconds": rounded(seconds), "mfu": rounded(flops / seconds / chips / chip.flops_per_second)}
  return found | ({"drawn_tokens_per_second_per_chip": rounded(drawn / seconds / chips)} if drawn else {})


def _chip_and_axes(mesh: Mesh) -> tuple[Chip, Mapping[str, Axis]] | None:
  chip = chip_of(mesh.devices.flat[0].device_kind)
  axes = mesh_axes(mesh, chip) if chip else None
  return (chip, axes) if chip and axes else None
