"""Proof that a config compiles for TPUs and fits their memory, without a TPU: what its programs need on each device.

A program's peak counts its arguments. What else lies on the devices while it runs is put on top: the other models, and
for the rollout's programs the optimiser's state; caches are freed before the learner's programs run.
"""

import dataclasses
import math
import re
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from posttrain_jax.data import demonstrations
from posttrain_jax.data.tokenizer import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.sizes import SIZES, sizes
from posttrain_jax.parallel import compiled, topology
from posttrain_jax.pipelines.method_programs import run_programs
from posttrain_jax.pipelines.policy import COMPUTE_FIELDS, Policy, load_policy
from posttrain_jax.pipelines.run_programs import Program
from posttrain_jax.pipelines.settings import build

_GIB = 2**30


def prove(
  config: ml_collections.ConfigDict, *, topology_name: str, slices: int = 1, model: str = "", say: Any = None
) -> dict[str, Any]:
  """Compiles a run's programs for a topology.

  Args:
    config: the run's.
    topology_name: such as "v5p:4x4x8".
    slices: number of them.
    model: name of a public model's sizes; empty: what `model.path` names.
    say: called with a line after each program; None says nothing.

  Returns:
    What `experiments.compile` prints; "refused" has a line for each program that does not fit.

  Raises:
    InputError: libtpu is not installed, the topology is unknown, or the config does not fit the mesh.
  """
  devices = topology.devices(topology_name, slices=slices)
  policy = policy_of(config, model)
  run = run_programs(config, policy, devices)
  memory = topology.memory_gib(devices)
  held = {name: bytes_per_device(array) / _GIB for name, array in run.arrays.items()}
  report: dict[str, Any] = {
    "topology": topology_name,
    "slices": slices,
    "devices": len(devices),
    "mesh": dict(next(iter(run.programs.values())).mesh.shape),
    "parameters": policy.model.num_params,
    "hbm_gib": memory,
    "arrays_gib": {name: round(size, 3) for name, size in held.items()},
    "programs": {},
    "flops_per_step": sum(program.calls * program.flops for program in run.programs.values()),
    "refused": [],
  }
  for name, program in run.programs.items():
    beside = sum(size for array, size in held.items() if array not in (*program.takes, *program.frees))
    found, refusal = compile_program(program, memory - beside)
    found = {"beside_gib": round(beside, 3), **found}
    report["programs"][name] = found
    if refusal:
      report["refused"].append(f"{name} {refusal}")
    if say is not None:
      say(f"{name}: {found}")
  return report


def compile_program(program: Program, memory: float) -> tuple[dict[str, Any], str]:
  """Compiles one program.

  Args:
    program: the program.
    memory: GiB that it may take on each device.

  Returns:
    (what was found, a line that says why it does not fit; empty where it does).
  """
  facts = {"calls_per_step": program.calls, "flops": program.flops}
  start = time.perf_counter()
  try:
    executable = lower(program).compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    needed, largest = out_of_memory(str(error))
    found = {"seconds": round(time.perf_counter() - start, 1), "needs_gib": needed, "largest": largest}
    return found | facts, f"needs {needed} GiB of {memory:.2f}; largest: {'; '.join(largest)}"
  seconds, text = time.perf_counter() - start, executable.as_text()
  analysis = executable.memory_analysis()
  peak = analysis.peak_memory_in_bytes / _GIB
  instructions = compiled.instructions(text)
  found = {
    "seconds": round(seconds, 1),
    "peak_gib": round(peak, 3),
    "arguments_gib": round(analysis.argument_size_in_bytes / _GIB, 3),
    "collectives": compiled.summary(compiled.collectives(instructions)),
  }
  if peak <= memory:
    return found | facts, ""
  found["largest"] = [f"{array} {array.bytes / _GIB:.2f} GiB" for array in compiled.largest(instructions, 3)]
  return found | facts, f"needs {peak:.2f} GiB of {memory:.2f} beside what else is there; largest: " + "; ".join(
    found["largest"]
  )


def lower(program: Program) -> jax.stages.Lowered:
  """A program lowered for the devices of its mesh."""
  platform = program.mesh.devices.flat[0].platform
  with jax.set_mesh(program.mesh):
    return program.function.trace(*program.arguments).lower(lowering_platforms=(platform,))


def out_of_memory(message: str) -> tuple[float, list[str]]:
  """What the compiler says that it needs, in GiB, and the largest buffers that it names."""
  return 0.0, [message[:2000]]


def policy_of(config: ml_collections.ConfigDict, name: str) -> Policy:
  """The model of a config without its parameters, which need not be there.

  Args:
    config: `model.path` is a public model's name, as "Qwen2.5-32B", or something that can be loaded.
    name: of a public model's sizes; goes before the path.
  """
  section = config.model
  known = re.sub(r"\W", "_", section.path.lower())
  found = [each for each in SIZES if known.startswith(each)]
  if not name and not found:
    return dataclasses.replace(load_policy(section), params=None)
  model = sizes(name or max(found, key=len))
  compute = {field: section[field] for field in COMPUTE_FIELDS}
  fields = ml_collections.ConfigDict(dataclasses.asdict(model) | compute)
  return Policy(build(TransformerConfig, fields, "model"), tiny_tokenizer(demonstrations.SYMBOLS))


def bytes_per_device(arrays: Any) -> int:
  """Bytes of abstract arrays on each device that has them."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(arrays)
  )
