"""One program of a run with abstract arguments, as it can be compiled before any array is there."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh


@dataclasses.dataclass(frozen=True)
class Program:
  """One program.

  Attributes:
    function: jitted.
    arguments: of a call; the large ones abstract.
    mesh: under which it is called.
    calls: in a step without dropped groups, whose answers are all as long as they may be.
    flops: that a call needs (`models.flops`).
    takes: which of the run's arrays are among the arguments; the others lie beside it on the devices,
    frees: except these, which the run frees before.
  """

  function: jax.stages.Wrapped
  arguments: tuple
  mesh: Mesh
  calls: int
  flops: int
  takes: tuple[str, ...]
  frees: tuple[str, ...] = ("caches", "prefixes", "pool")


@dataclasses.dataclass(frozen=True)
class RunPrograms:
  """A run's programs.

  Attributes:
    programs: by name.
    arrays: abstract arrays that live through a step, by name: each model's parameters, optimiser states, caches
      of answers ("caches") and of prompts that answers go on with ("prefixes") or are about to ("pool").
  """

  programs: Mapping[str, Program]
  arrays: Mapping[str, Any]


def shapes(batch: Any) -> Any:
  """Arrays of the host as ShapeDtypeStructs."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
