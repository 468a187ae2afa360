"""Describes one program as the compiler needs it: a jitted function and abstract arguments."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from posttrain_jax.performance.counts import Copy, Pass


@dataclasses.dataclass(frozen=True)
class Program:
  """Describes one program of a run.

  Attributes:
    function: jitted.
    arguments: of a call; the large arrays are abstract.
    mesh: mesh under which it is called.
    calls: number of calls in a step that draws one batch of prompts. These have the greatest length, and all answers
      have one length.
    work: what a call has to compute, read and send.
    takes: names of the run's arrays among the arguments.
    frees: names of the run's arrays that the run frees before the call. All arrays in neither list stay on the devices
      during the call, in addition to the program's own memory.
  """

  function: jax.stages.Wrapped
  arguments: tuple
  mesh: Mesh
  calls: int
  work: Pass | Copy
  takes: tuple[str, ...]
  frees: tuple[str, ...] = ("caches", "sampler")


@dataclasses.dataclass(frozen=True)
class RunPrograms:
  """Holds a run's programs, and the arrays that stay on its devices between calls.

  Attributes:
    programs: name → program.
    arrays: name → pytree of jax.ShapeDtypeStruct: each model's parameters, the optimiser states, and the KV caches of
      answers and their prompts ("caches").
  """

  programs: Mapping[str, Program]
  arrays: Mapping[str, Any]


def shapes(batch: Any) -> Any:
  """Replaces each array of a pytree by its jax.ShapeDtypeStruct."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)


def bytes_per_device(arrays: Any) -> int:
  """Counts the bytes of sharded abstract arrays on each device that holds a shard."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(arrays)
  )
